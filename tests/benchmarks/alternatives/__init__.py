"""The same delegation through our bus and through job queues, each as two programs: one that works, one that asks.

Every `with_*` module is both, run by the interpreter of an environment that has its library. The modules beside them
need the standard library alone, because they are imported in all of these environments.
"""
