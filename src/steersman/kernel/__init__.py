"""What every other room stands on: time, names, tasks, errors, configuration, logs, retries, bounds.

No domain word belongs in here. This is the only package that may read the machine's clock, start a task
or a thread, or draw a random number; everything else is handed a `Clock`, `Rng`, `Ids` or `Supervisor`.
"""
