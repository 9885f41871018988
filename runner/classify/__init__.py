"""`run_cv_classifier`: the vendor's command line, for one model on one card, by the stages of a sweep.

options      the command line                          } decide; no input or output
parameters   option, look-up row or default; what does not fit }
layout       names in the model's directory            }
commands     the file that reproduces the run by hand  }
prepare      all that can be known before any work: table, backend, card, files of an earlier run
flow         export -> inputs -> compile and run (`card`) or measure (`cpu`) -> compare
records      what an artefact was made of, for a later `--run-only`
printed      the lines that parsers of the vendor's output read
cli          errors become a last line and an exit code
"""
