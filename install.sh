#!/bin/sh
# Installs refcast from this checkout; with repositories and a URL it leaves a working system.
# `./install.sh --help` says how; docs/install.md says what it does and why.
set -eu
umask 022
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

usage() {
	cat <<'EOF'
Usage: ./install.sh [OPTION...] [REPO...]
       ./install.sh --demo

Installs refcast. Given bare repositories and --url, pushes to them are announced from then on.
Without either it installs the program alone, or upgrades all that is installed. Running it again is fine.

Options:
  --url URL           Where deliveries go. May be left out: add endpoints later.
  --dialect NAME      What the receiver understands. Default: codeup.
  --name NAME         The endpoint's name. Default: made from the URL's host.
  --secret-file FILE  Read the endpoint's secret from a file; - for standard input.
  --secret-env NAME   Read the endpoint's secret from an environment variable.
  --all ROOT          Every bare repository below ROOT; again for more.
  --shared            Even if a hooks directory serves other repositories as well.
  --intent HOOK       What notes which refs are about to move: update (for each ref) or pre-receive (once a push).
  --gitolite          All repositories of --user's gitolite, and those that it will make.
  --system            With --all, as root: also the repositories that are made there later, whoever owns them.
  --front-end USER    A user whose REMOTE_USER or GL_USER names the pusher, as a web server's. Default: --user alone.
  --keep-rc           With --gitolite: change nothing in its rc, but say what that lacks.
  --service           Keep a worker running by systemd, also after a reboot.
  --user USER         As root: whom state and worker belong to. Default: the repositories' owner, or who hosts gitolite;
                      where none are named, the state directory's.
  --prefix DIR        Where the program goes. Default: /opt/refcast as root,
                      else refcast in $XDG_DATA_HOME or ~/.local/share.
  --state DIR         The state directory. Default: /var/lib/refcast as root, else refcast's own default.
  --demo              Show refcast at work, in a virtual environment .venv of this checkout. Installs nothing else.
  --dev               Make that .venv with all that the tests need, and stop.
  -h, --help          Show this and exit.

As root it also installs git, python3 and python3-venv by apt-get if they are missing.
Exit status: 0 done; 1 something failed or is missing; 2 bad input; 3 the state directory cannot be used;
4 a repository cannot be used.
EOF
}

say() { printf '%s\n' "$1"; }

die() {
	printf 'install.sh: %s\n' "$2" >&2
	exit "$1"
}

quoted() { # for whoever copies it
	case $1 in
		*[!A-Za-z0-9/._-]*) printf "'%s'" "$1" ;;
		*) printf '%s' "$1" ;;
	esac
}

absolute() {
	case $1 in
		/*) printf '%s' "$1" ;;
		*) printf '%s/%s' "$PWD" "$1" ;;
	esac
}

here=$(cd -P "$(dirname "$0")" && pwd)
me=$(id -un) || die 1 "user $(id -u) has no account name"
mode=install url='' dialect='' name='' secret='' user='' prefix='' state='' shared='' intent=''
gitolite='' keep_rc='' service='' system='' front_end=''

# What stands behind the last option's value is put to the end of "$@": the arguments for `refcast install`.
left=$#
while [ "$left" -gt 0 ]; do
	word=$1 value=''
	shift
	left=$((left - 1))
	case $word in
		--demo | --dev | --shared | --gitolite | --system | --keep-rc | --service | -h | --help) ;;
		--url | --dialect | --name | --secret-file | --secret-env | --all | --intent | --front-end | --user | --prefix | --state)
			[ "$left" -gt 0 ] || die 2 "$word needs a value"
			value=$1
			shift
			left=$((left - 1))
			;;
		--*=*) value=${word#*=} word=${word%%=*} ;;
	esac
	case $word in
		--demo) mode=demo ;;
		--dev) mode=dev ;;
		--shared) shared=$word ;;
		--gitolite) gitolite=$word ;;
		--system) system=$word ;;
		--front-end)
			id -u "$value" >/dev/null 2>&1 || die 2 "there is no user $value"
			front_end=$value
			;;
		--keep-rc) keep_rc=$word ;;
		--service) service=$word ;;
		--intent) intent=$value ;;
		-h | --help)
			usage
			exit 0
			;;
		--url) url=$value ;;
		--dialect) dialect=$value ;;
		--name) name=$value ;;
		--secret-file | --secret-env)
			[ -z "$secret" ] || die 2 "give the secret in one way: --secret-file or --secret-env"
			secret=$word secret_value=$value
			;;
		--all)
			[ -d "$value" ] || die 2 "--all: $value is not a directory"
			set -- "$@" --all "$(absolute "$value")"
			;;
		--user) user=$value ;;
		--prefix) prefix=$(absolute "$value") ;;
		--state) state=$(absolute "$value") ;;
		-?*) die 2 "there is no option $word: see ./install.sh --help" ;;
		*)
			[ -n "$word" ] || die 2 "an empty name is no repository"
			[ -d "$word" ] || die 4 "no repository $word: there is no such directory"
			if [ ! -f "$word/HEAD" ] || [ ! -d "$word/objects" ] || grep -Eqs '^[[:space:]]*bare *= *false' "$word/config"; then
				die 4 "$word is not a bare repository; refcast installs into what people push to"
			fi
			set -- "$@" "$(absolute "$word")"
			;;
	esac
done

if [ -n "$system" ]; then
	[ "$(id -u)" -eq 0 ] || die 2 "--system changes what git does for everybody: run this as root"
	[ -z "$gitolite$shared" ] || die 2 "--system goes with --all alone: it covers all repositories below those directories"
	[ $# -gt 0 ] || die 2 "--system needs the directories of repositories that it is to cover: name them with --all"
fi
if [ -n "$gitolite" ]; then
	[ -z "$*$shared$intent" ] || die 2 "--gitolite goes alone: it covers all repositories, and has intents by pre-receive"
elif [ $# -eq 0 ]; then
	[ -z "$url" ] || die 2 "--url needs repositories: name some, a directory of them with --all, or --gitolite"
fi
[ -n "$gitolite" ] || [ -z "$keep_rc" ] || die 2 "--keep-rc goes with --gitolite: no other server has an rc"
case $intent in
	'' | update | pre-receive) ;;
	*) die 2 "--intent: there is no hook $intent: use update or pre-receive" ;;
esac
if [ -z "$url" ]; then
	[ -z "$dialect$name$secret" ] || die 2 "--dialect, --name and a secret belong to an endpoint: give its --url"
fi
case $secret in
	--secret-file)
		if [ "$secret_value" != - ]; then
			secret_value=$(absolute "$secret_value")
			[ -r "$secret_value" ] || die 2 "cannot read the secret from $secret_value"
		fi
		;;
	--secret-env)
		printenv "$secret_value" >/dev/null || die 2 "there is no environment variable $secret_value"
		;;
esac

# ---- whose it will be ----

owners() { # of the repositories that are named
	while [ $# -gt 0 ]; do
		if [ "$1" = --all ]; then
			# shellcheck disable=SC2016 # the inner shell's variables
			find "$2" -type f -name HEAD -exec sh -c '
				for head; do
					directory=${head%/HEAD}
					[ ! -d "$directory/objects" ] || [ "${directory##*/}" = .git ] || stat -c %u "$directory"
				done' sh {} +
			shift
		else
			stat -L -c %u "$1"
		fi
		shift
	done | sort -u
}

hosts_of_gitolite() { # the accounts by which Debian and gitolite's own pages have it hosted, if they do
	for account in git gitolite3 gitolite; do
		at=$(getent passwd "$account" | cut -d: -f6)
		[ -z "$at" ] || [ ! -f "$at/.gitolite.rc" ] || printf '%s\n' "$account"
	done
}

root=''
[ "$(id -u)" -ne 0 ] || root=yes
owner=$(owners "$@")
[ $# -eq 0 ] || [ -n "$owner$system" ] || die 2 "there is no bare repository below the --all directory"
if [ -z "$root" ]; then
	[ -z "$user" ] || [ "$user" = "$me" ] || die 2 "only root can install for another --user"
	user=$me
elif [ -n "$gitolite" ] && [ -z "$user" ]; then
	user=$(hosts_of_gitolite)
	[ "$(printf '%s\n' "$user" | wc -w)" -eq 1 ] || die 2 "cannot tell who hosts gitolite ($user): name that user by --user"
elif [ $mode != install ]; then
	user=$me
elif [ -z "$user" ] && [ $# -eq 0 ]; then
	user=$(stat -c %U "${state:-/var/lib/refcast}" 2>/dev/null) || user=$me
elif [ -z "$user" ]; then
	case $owner in
		*[!0-9]*) die 2 "the repositories belong to several users ($(printf '%s' "$owner" | tr '\n' ' ')): choose one with --user" ;;
	esac
	user=$(getent passwd "$owner" | cut -d: -f1)
	[ -n "$user" ] || die 2 "the repositories' owner, user $owner, has no account: choose one with --user"
fi
account=$(getent passwd "$user") || die 2 "there is no user $user"
home=$(printf '%s' "$account" | cut -d: -f6)
[ -z "$gitolite" ] || [ -f "$home/.gitolite.rc" ] || die 2 "user $user hosts no gitolite: there is no $home/.gitolite.rc"
group=$(id -g "$user")

as_user() {
	if [ "$user" = "$me" ]; then
		"$@"
	elif command -v runuser >/dev/null; then
		HOME=$home runuser -u "$user" -- "$@"
	elif command -v setpriv >/dev/null; then
		HOME=$home setpriv --reuid "$user" --regid "$group" --init-groups -- "$@"
	else
		# shellcheck disable=SC2016 # the inner shell's arguments
		HOME=$home su -m -s /bin/sh "$user" -c 'exec "$@"' sh "$@"
	fi
}

# ---- what it needs ----

works() { # whether a Python is new enough, whole, and within the user's reach
	(cd / && as_user "$1" -I -c 'import sys, ensurepip, sqlite3, ssl, venv; sys.exit(sys.version_info < (3, 11))') \
		>/dev/null 2>&1
}

find_python() {
	for place in '' /usr/local/bin/ /usr/bin/; do
		for version in 3 3.13 3.12 3.11 3.14; do
			python=$(command -v "${place}python$version") && works "$python" && return
		done
	done
	return 1
}

missing() {
	command -v git >/dev/null || printf ' git'
	find_python || printf ' python3 python3-venv'
}

needed=$(missing)
if [ -n "$needed" ] && [ -n "$root" ] && command -v apt-get >/dev/null; then
	say "installing$needed by apt-get"
	# shellcheck disable=SC2086 # split on purpose
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $needed; } \
		</dev/null >/dev/null || die 1 "apt-get could not install$needed: install it, then run this again"
	needed=$(missing)
fi
case $needed in
	*python*)
		has=$(python3 -V 2>/dev/null) || has='no python3'
		die 1 "refcast needs Python 3.11 or later with its venv module, for user $user; here is $has: install$needed (or python3.11 python3.11-venv)"
		;;
	*?*) die 1 "refcast needs$needed: install it (as root: apt install$needed), then run this again" ;;
esac
find_python

# ---- the endpoint's name, and whether its URL and dialect can be used: by the same rules as refcast's own ----

if [ -n "$url" ]; then
	facts=$("$python" -I -B - "$here/src" "$url" "${dialect:-codeup}" <<'EOF'
import re
import sys
from urllib.parse import urlsplit

sys.path.insert(0, sys.argv[1])
from refcast import dialects, urls
from refcast.errors import RefcastError

try:
    urls.check_url(sys.argv[2])
    signs = dialects.get(sys.argv[3]).SIGNING != "none"
except RefcastError as error:
    sys.exit(f"install.sh: {error}")
print(re.sub("[^A-Za-z0-9._-]", "-", urlsplit(sys.argv[2]).hostname).strip("-._")[:64] or "endpoint")
print(urls.masked(sys.argv[2], hide_path=not signs))
print(urls.masked(sys.argv[2], hide_path=True))
EOF
	) || exit 2
	named=$name
	name=${name:-$(printf '%s' "$facts" | sed 1q)}
	masked=$(printf '%s' "$facts" | sed -n 2p)
	hidden=$(printf '%s' "$facts" | sed -n 3p) # as refcast shows it where the path is the secret
fi

# ---- the program ----

fingerprint() { # of what is installed: a second run need not ask the registry again
	(cd "$here" && find "$@" -type f ! -name '*.pyc' -exec cksum {} + | LC_ALL=C sort && pwd) | cksum
}

make_venv() { # directory; the Python in it is found or made
	[ ! -e "$1" ] || [ -f "$1/pyvenv.cfg" ] || die 1 "$1 is there and is no virtual environment: choose another place"
	works "$1/bin/python" && "$1/bin/python" -m pip --version >/dev/null 2>&1 && return
	rm -f "$1/refcast.stamp"
	"$python" -m venv --clear "$1" || die 1 "cannot make a virtual environment in $1"
}

pip_install() { # directory, stamp, arguments of pip
	directory=$1 stamp=$2
	shift 2
	if ! "$directory/bin/python" -m pip --disable-pip-version-check --no-input --quiet install "$@"; then
		die 1 "pip could not install refcast into $directory; is the package registry within reach?"
	fi
	printf '%s\n' "$stamp" >"$directory/refcast.stamp"
}

if [ $mode != install ]; then
	venv=$here/.venv
	[ -w "$here" ] || die 1 "cannot write to $here: make a copy of the checkout that is yours"
	make_venv "$venv"
	stamp=$(fingerprint pyproject.toml)
	kept=$(cat "$venv/refcast.stamp" 2>/dev/null) || kept=''
	# What the tests need is enough for the demonstration.
	if [ "$kept" != "dev $stamp" ] && [ "$kept" != "$mode $stamp" ]; then
		say "installing into $venv"
		extra=''
		[ $mode != dev ] || extra='[dev]'
		pip_install "$venv" "$mode $stamp" --editable "$here$extra"
	fi
	[ $mode = demo ] || exit 0
	exec "$venv/bin/refcast" demo
fi

default=/opt/refcast
[ -n "$root" ] || default=${XDG_DATA_HOME:-$HOME/.local/share}/refcast
prefix=${prefix:-$default}
mkdir -p "$prefix" || die 1 "cannot make $prefix: choose another --prefix"
if [ -n "$root" ]; then
	[ -z "$(find "$prefix" -maxdepth 0 \( ! -uid 0 -o -perm /022 \))" ] ||
		die 1 "$prefix must belong to root and be writable by nobody else: choose another --prefix"
	as_user test -x "$prefix" || die 1 "user $user cannot enter $prefix: choose another --prefix"
fi
venv=$prefix/venv
make_venv "$venv"
stamp=$(fingerprint src hooks pyproject.toml)
fresh=''
if [ "$(cat "$venv/refcast.stamp" 2>/dev/null)" != "$stamp" ]; then
	say "installing into $venv"
	rm -f "$venv/refcast.stamp"
	pip_install "$venv" "$stamp" "$here"
	fresh=yes
fi
command=$venv/bin/refcast
link=/usr/local/bin/refcast
if [ -n "$root" ] && [ "$prefix" = "$default" ]; then
	if [ ! -e "$link" ] && [ ! -h "$link" ]; then
		mkdir -p "${link%/*}"
		ln -s "$command" "$link"
	fi
	[ "$(readlink "$link")" != "$command" ] || command=refcast
fi

# ---- the state directory ----

cd /
hint=${state:+" --state $(quoted "$state")"}
if [ -n "$root" ]; then
	state=${state:-/var/lib/refcast}
elif [ -z "$state" ]; then
	state=$("$venv/bin/python" -I -c 'from refcast.cli.common import default_state as d; print(d())')
	state=${REFCAST_STATE:-$state}
fi
refcast() { as_user "$venv/bin/refcast" --state "$state" "$@"; }

[ -z "$gitolite" ] || set -- --gitolite ${keep_rc:+"$keep_rc"}
if [ $# -gt 0 ] && [ ! -e "$state" ]; then
	above=${state%/*}
	above=${above:-/}
	# Where the user can write, only the user makes it: root could be led astray by a link that comes meanwhile.
	as_user mkdir -p "$above" 2>/dev/null || mkdir -p "$above" || die 3 "cannot make $above: choose another --state"
	if ! as_user mkdir -m 711 "$state" 2>/dev/null; then
		open=$(find "$above" -maxdepth 0 \( ! -uid 0 -o -perm /022 \))
		if [ -n "$open" ] || ! mkdir -m 711 "$state"; then
			die 3 "cannot make the state directory $state: choose another --state"
		fi
		[ -z "$root" ] || chown -h "$user:$group" "$state"
	fi
fi
problem=0
if [ -e "$state/spool" ]; then
	# The service first: its worker notes what it has sent in the store that it knows, before that becomes a newer one.
	[ -z "$fresh" ] || "$venv/bin/refcast" --state "$state" service install --renew
	# The hooks of one repository that is gone must not keep the others from being installed.
	refcast upgrade </dev/null || problem=$?
	[ "$problem" -eq 0 ] || [ "$problem" -eq 4 ] || exit "$problem"
fi

# ---- the endpoint, then the hooks, so that no push comes in between ----

set_endpoint() {
	if old=$(refcast endpoint show "$name" --json 2>/dev/null </dev/null); then
		old=$(printf '%s' "$old" | "$venv/bin/python" -I -c 'import json, sys; print(json.load(sys.stdin)["url"])')
		[ "$old" != "$hidden" ] || masked=$hidden
		if [ -z "$named" ] && [ "$old" != "$masked" ]; then
			die 2 "the endpoint $name has another URL, $old: pass --name $name to change it, or another --name to add one"
		fi
		if [ -z "$named$dialect$secret" ]; then
			say "the endpoint $name is there already, and left as it is"
			return
		fi
		set -- edit "$name" ${named:+--url "$url"}
	else
		set -- add "$name" "$url"
		dialect=${dialect:-codeup}
	fi
	[ -z "$dialect" ] || set -- "$@" --dialect "$dialect"
	case $secret in
		# Root reads the file: the user need not be able to.
		--secret-file) set -- "$@" --secret-file - ;;
		--secret-env) set -- "$@" --secret-env "$secret_value" ;;
	esac
	if [ "$secret" = --secret-file ] && [ "$secret_value" != - ]; then exec <"$secret_value"; fi
	refcast endpoint "$@" >/dev/null
	say "the endpoint $name: $masked"
}

if [ -n "$url" ]; then set_endpoint; fi
if [ -n "$system" ]; then
	"$venv/bin/refcast" --state "$state" install --system ${intent:+--intent "$intent"} ${front_end:+--front-end "$front_end"} \
		"$@" </dev/null
elif [ $# -gt 0 ]; then
	set -- ${front_end:+--front-end "$front_end"} "$@"
	refcast install ${shared:+"$shared"} ${intent:+--intent "$intent"} "$@" </dev/null
fi
if [ -n "$service" ]; then "$venv/bin/refcast" --state "$state" service install; fi

# ---- what comes next ----

show=$(quoted "$command")$hint
if [ "$user" = "$me" ]; then :; elif command -v sudo >/dev/null; then
	show="sudo -u $user $show"
else
	show="runuser -u $user -- $show"
fi
say "refcast is installed in $venv"
if [ $# -eq 0 ]; then
	say "next: name repositories and a --url to this script, or see $show --help"
elif [ -n "$url" ]; then
	say "next: git push, then: $show delivery list"
else
	say "see: $show status"
fi
exit "$problem"
