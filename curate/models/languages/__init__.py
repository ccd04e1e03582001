"""Language models, one face for all (`face`): their settings, a file a kind; `table` names them."""
