"""Threads that run the consumers of many tables side by side: handlers, mirrors and groups of mirrors."""
