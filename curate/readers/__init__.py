"""Files that others wrote, read safely: folders, tables, texts, web archives, lists of who opted out."""
