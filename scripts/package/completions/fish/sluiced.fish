complete -c sluiced -l config -d 'The configuration file' -r -F
complete -c sluiced -l log -d 'What to log: error, warn, info, debug, trace, or tracing\'s filters; else SLUICE_LOG, else RUST_LOG, else info' -r
complete -c sluiced -s h -l help -d 'Print help'
complete -c sluiced -s V -l version -d 'Print version'
