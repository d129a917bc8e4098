//! The capture SMTP server: takes every mail, keeps it in memory, and misbehaves when the recipient's name says so.
