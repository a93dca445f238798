"""Jobs that an operator launches: bookmarks, rewinds, decisions about blocked tables, deletion of old runs."""
