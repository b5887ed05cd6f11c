"""One file a network; `registry.TABLES["denoisers"]` names them."""
