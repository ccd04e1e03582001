"""Read files that others wrote, safely: folders, tables, texts, web archives, opt-out lists."""
