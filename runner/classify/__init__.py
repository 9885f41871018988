"""`run_cv_classifier`: the vendor's command line, for one model on one card, by the stages of a sweep.

What decides and does no input or output:

    options, given      the command line
    parameters, fit     option, look-up row or default; what does not fit
    layout, commands    names in the model's directory; the file that reproduces a run by hand

What acts:

    prepare     all that can be known before any work: table, backend, card, files of an earlier run
    flow        export -> inputs -> compile and run (`card`) or measure (`cpu`) -> compare
    records     what an artefact was made of, for a later `--run-only`
    printed     the lines that parsers of the vendor's output read
    cli         errors become a last line and an exit code
"""
