"""Telling people what happened to an object: whom, in which words, and how often it is tried.

Settings, texts and the rule of repeating; nothing here talks to a server.
"""

from __future__ import annotations

from zeroskew.notifications.delivery import Attempt, next_attempt
from zeroskew.notifications.notification import Notification
from zeroskew.notifications.rendering import body_of, check_template, render
from zeroskew.notifications.settings import (
    Destination,
    NotificationSettings,
    SecretSource,
    load_notifications,
    parse_notifications,
)

__all__ = [
    "Attempt",
    "Destination",
    "Notification",
    "NotificationSettings",
    "SecretSource",
    "body_of",
    "check_template",
    "load_notifications",
    "next_attempt",
    "parse_notifications",
    "render",
]
