"""How the study is run and shown: the steps of the graph, the pages of the report."""
