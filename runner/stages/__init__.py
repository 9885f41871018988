"""The stages that make something of a model: export. (Compiling and running belong to the backends.)"""
