"""The controller and the kubectl plugin, which import `runner`, never the reverse."""
