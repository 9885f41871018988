"""`python -m k8s` is the controller."""

from k8s.controller import main

main()
