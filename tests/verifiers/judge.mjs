// Judges of received requests that npm has: node judge.mjs JUDGE. Reads [{headers, body, secret}] as JSON from its
// standard input, the body in base64, and prints a list of as many verdicts: null, or why the request is refused.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

import { EmbedBuilder, embedLength } from "@discordjs/builders";
import { Webhooks } from "@octokit/webhooks";
import Ajv from "ajv";
import formats from "ajv-formats";
import { Webhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";

const require = createRequire(import.meta.url);

function refuse(reason) {
  throw new Error(reason);
}

// octokit's own way of receiving: verifies the signature, then hands the event to whoever listens.
async function octokit({ headers, body, secret }) {
  const webhooks = new Webhooks({ secret });
  let heard;
  webhooks.onAny(({ id, name, payload }) => {
    heard = { id, name, payload };
  });
  await webhooks.verifyAndReceive({
    id: headers["x-github-delivery"],
    name: headers["x-github-event"],
    payload: body.toString(),
    signature: headers["x-hub-signature-256"],
  });
  const sent = JSON.stringify(JSON.parse(body));
  if (heard?.name !== headers["x-github-event"] || JSON.stringify(heard.payload) !== sent) refuse("was not heard");
}

const { definitions } = require("@octokit/webhooks-schemas/schema.json");
const ajv = formats(new Ajv({ strict: false, validateSchema: false }));
const validators = {};

// octokit's JSON Schemas of what GitHub sends.
function octokitSchema({ headers, body }) {
  const event = headers["x-github-event"];
  const schema = definitions[`${event}$event`] ?? refuse(`no schema for ${event}`);
  const validate = (validators[event] ??= ajv.compile({ ...schema, definitions }));
  if (!validate(JSON.parse(body))) refuse(ajv.errorsText(validate.errors));
}

function standardWebhooks({ headers, body, secret }) {
  new Webhook(secret).verify(body, headers);
}

// The code from which the library above was made; later versions of Svix call that one.
function svix({ headers, body, secret }) {
  new SvixWebhook(secret).verify(body, headers);
}

const SETTERS = {
  author: "setAuthor",
  color: "setColor",
  description: "setDescription",
  title: "setTitle",
  url: "setURL",
};

// discord.js builds the same embeds, each part through the check that it makes of its limits.
function discord({ body }) {
  const message = JSON.parse(body);
  if ((message.content ?? "").length > 2000) refuse("the content is too long");
  if (message.embeds.length > 10) refuse("too many embeds");
  const built = message.embeds.map((embed) => {
    const builder = new EmbedBuilder();
    for (const [key, value] of Object.entries(embed)) {
      builder[SETTERS[key] ?? refuse(`no embed has ${key}`)](value);
    }
    return builder.toJSON();
  });
  if (built.reduce((sum, embed) => sum + embedLength(embed), 0) > 6000) refuse("the embeds are too long");
  if (sorted(built) !== sorted(message.embeds)) refuse(`built as ${JSON.stringify(built)}`);
}

function sorted(value) {
  return JSON.stringify(value, (_, inner) =>
    inner && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort())
      : inner,
  );
}

const judge = { discord, octokit, octokitSchema, standardWebhooks, svix }[process.argv[2]];
const verdicts = [];
for (const request of JSON.parse(await text(process.stdin))) {
  try {
    await judge({ ...request, body: Buffer.from(request.body, "base64") });
    verdicts.push(null);
  } catch (error) {
    verdicts.push([error, ...(error.errors ?? [])].join("; "));
  }
}
console.log(JSON.stringify(verdicts));
