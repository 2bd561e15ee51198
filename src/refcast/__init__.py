"""refcast: signed, ordered, durable webhooks for plain git servers."""

__version__ = "0.1.0"
