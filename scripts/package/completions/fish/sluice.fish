# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sluice_global_optspecs
    string join \n socket= A/add-service E/edit-service D/delete-service C/clear a/add-server e/edit-server d/delete-server L/list S/save R/restore Z/zero set start-daemon= stop-daemon= P/add-laddr Q/del-laddr G/get-laddr U/add-blklst V/del-blklst B/get-blklst O/add-whtlst Y/del-whtlst W/get-whtlst h/help v/version t/tcp-service= u/udp-service= sctp-service= f/fwmark-service= 6/ipv6 s/scheduler= b/sched-flags= p/persistent= M/netmask= pe= o/ops r/real-server= g/gatewaying i/ipip m/masquerading fullnat w/weight= x/u-threshold= y/l-threshold= tun-type= tun-port= tun-nocsum tun-csum tun-remcsum c/connection n/numeric stats rate thresholds persistent-conn tun-info X/exact timeout daemon sort nosort mcast-interface= syncid= sync-maxlen= mcast-group= mcast-port= mcast-ttl= z/laddr= F/ifname= k/blklst= 2/whtlst= j/synproxy= conn-timeout= proxy-protocol= expire-quiescent client-address= mss-clamp atomic
end

function __fish_sluice_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sluice_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sluice_using_subcommand
    set -l cmd (__fish_sluice_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sluice -n "__fish_sluice_needs_command" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_needs_command" -l start-daemon -d 'start daemon' -r
complete -c sluice -n "__fish_sluice_needs_command" -l stop-daemon -d 'stop daemon' -r
complete -c sluice -n "__fish_sluice_needs_command" -s t -l tcp-service -d 'tcp service' -r
complete -c sluice -n "__fish_sluice_needs_command" -s u -l udp-service -d 'udp service' -r
complete -c sluice -n "__fish_sluice_needs_command" -l sctp-service -d 'sctp service' -r
complete -c sluice -n "__fish_sluice_needs_command" -s f -l fwmark-service -d 'fwmark service' -r
complete -c sluice -n "__fish_sluice_needs_command" -s s -l scheduler -d 'how a real server is chosen (wlc)' -r
complete -c sluice -n "__fish_sluice_needs_command" -s b -l sched-flags -d 'sh-port, sh-fallback, mh-port, mh-fallback, flag-1, flag-2, flag-3' -r
complete -c sluice -n "__fish_sluice_needs_command" -s p -l persistent -d 'a client keeps its real server for N seconds (360)' -r
complete -c sluice -n "__fish_sluice_needs_command" -s M -l netmask -d 'what of its address makes a client (all of it)' -r
complete -c sluice -n "__fish_sluice_needs_command" -l pe -d 'a client keeps its real server for N seconds (360)' -r
complete -c sluice -n "__fish_sluice_needs_command" -s r -l real-server -d 'real server' -r
complete -c sluice -n "__fish_sluice_needs_command" -s w -l weight -d '0 to 65535 (1)' -r
complete -c sluice -n "__fish_sluice_needs_command" -s x -l u-threshold -d 'most connections (0: no limit)' -r
complete -c sluice -n "__fish_sluice_needs_command" -s y -l l-threshold -d 'fewer than this and it is chosen again' -r
complete -c sluice -n "__fish_sluice_needs_command" -l tun-type -d 'tun type' -r
complete -c sluice -n "__fish_sluice_needs_command" -l tun-port -d 'tun port' -r
complete -c sluice -n "__fish_sluice_needs_command" -l mcast-interface -d 'mcast interface' -r
complete -c sluice -n "__fish_sluice_needs_command" -l syncid -d 'syncid' -r
complete -c sluice -n "__fish_sluice_needs_command" -l sync-maxlen -d 'sync maxlen' -r
complete -c sluice -n "__fish_sluice_needs_command" -l mcast-group -d 'mcast group' -r
complete -c sluice -n "__fish_sluice_needs_command" -l mcast-port -d 'mcast port' -r
complete -c sluice -n "__fish_sluice_needs_command" -l mcast-ttl -d 'mcast ttl' -r
complete -c sluice -n "__fish_sluice_needs_command" -s z -l laddr -d 'laddr' -r
complete -c sluice -n "__fish_sluice_needs_command" -s F -l ifname -d 'ifname' -r
complete -c sluice -n "__fish_sluice_needs_command" -s k -l blklst -d 'blklst' -r
complete -c sluice -n "__fish_sluice_needs_command" -s 2 -l whtlst -d 'whtlst' -r
complete -c sluice -n "__fish_sluice_needs_command" -s j -l synproxy -d 'synproxy' -r
complete -c sluice -n "__fish_sluice_needs_command" -l conn-timeout -d 'conn timeout' -r
complete -c sluice -n "__fish_sluice_needs_command" -l proxy-protocol -d 'proxy protocol' -r
complete -c sluice -n "__fish_sluice_needs_command" -l client-address -d 'client address' -r
complete -c sluice -n "__fish_sluice_needs_command" -s A -l add-service -d 'add a service'
complete -c sluice -n "__fish_sluice_needs_command" -s E -l edit-service -d 'replace all its settings'
complete -c sluice -n "__fish_sluice_needs_command" -s D -l delete-service -d 'remove it and its real servers'
complete -c sluice -n "__fish_sluice_needs_command" -s C -l clear -d 'remove every service'
complete -c sluice -n "__fish_sluice_needs_command" -s a -l add-server -d 'add a real server'
complete -c sluice -n "__fish_sluice_needs_command" -s e -l edit-server -d 'replace all its settings'
complete -c sluice -n "__fish_sluice_needs_command" -s d -l delete-server -d 'remove it'
complete -c sluice -n "__fish_sluice_needs_command" -s L -l list -d 'list services, or what VIEW says'
complete -c sluice -n "__fish_sluice_needs_command" -s S -l save -d 'print the calls that make what there is'
complete -c sluice -n "__fish_sluice_needs_command" -s R -l restore -d 'run the calls on standard input, one a line'
complete -c sluice -n "__fish_sluice_needs_command" -s Z -l zero -d 'start counting anew'
complete -c sluice -n "__fish_sluice_needs_command" -l set -d 'timeouts in seconds; 0 leaves one as it is'
complete -c sluice -n "__fish_sluice_needs_command" -s P -l add-laddr -d 'add laddr'
complete -c sluice -n "__fish_sluice_needs_command" -s Q -l del-laddr -d 'del laddr'
complete -c sluice -n "__fish_sluice_needs_command" -s G -l get-laddr -d 'get laddr'
complete -c sluice -n "__fish_sluice_needs_command" -s U -l add-blklst -d 'add blklst'
complete -c sluice -n "__fish_sluice_needs_command" -s V -l del-blklst -d 'del blklst'
complete -c sluice -n "__fish_sluice_needs_command" -s B -l get-blklst -d 'get blklst'
complete -c sluice -n "__fish_sluice_needs_command" -s O -l add-whtlst -d 'add whtlst'
complete -c sluice -n "__fish_sluice_needs_command" -s Y -l del-whtlst -d 'del whtlst'
complete -c sluice -n "__fish_sluice_needs_command" -s W -l get-whtlst -d 'get whtlst'
complete -c sluice -n "__fish_sluice_needs_command" -s h -l help -d 'help'
complete -c sluice -n "__fish_sluice_needs_command" -s v -l version -d 'version'
complete -c sluice -n "__fish_sluice_needs_command" -s 6 -l ipv6 -d 'ipv6'
complete -c sluice -n "__fish_sluice_needs_command" -s o -l ops -d 'each packet for itself (UDP and marks)'
complete -c sluice -n "__fish_sluice_needs_command" -s g -l gatewaying -d 'direct routing (this is the default)'
complete -c sluice -n "__fish_sluice_needs_command" -s i -l ipip -d 'ipip'
complete -c sluice -n "__fish_sluice_needs_command" -s m -l masquerading -d 'NAT'
complete -c sluice -n "__fish_sluice_needs_command" -l fullnat -d 'NAT of both addresses'
complete -c sluice -n "__fish_sluice_needs_command" -l tun-nocsum -d 'tun nocsum'
complete -c sluice -n "__fish_sluice_needs_command" -l tun-csum -d 'tun csum'
complete -c sluice -n "__fish_sluice_needs_command" -l tun-remcsum -d 'tun remcsum'
complete -c sluice -n "__fish_sluice_needs_command" -s c -l connection -d 'connection'
complete -c sluice -n "__fish_sluice_needs_command" -s n -l numeric -d 'numbers instead of names'
complete -c sluice -n "__fish_sluice_needs_command" -l stats -d 'stats'
complete -c sluice -n "__fish_sluice_needs_command" -l rate -d 'rate'
complete -c sluice -n "__fish_sluice_needs_command" -l thresholds -d 'thresholds'
complete -c sluice -n "__fish_sluice_needs_command" -l persistent-conn -d 'persistent conn'
complete -c sluice -n "__fish_sluice_needs_command" -l tun-info -d 'tun info'
complete -c sluice -n "__fish_sluice_needs_command" -s X -l exact -d 'numbers in full'
complete -c sluice -n "__fish_sluice_needs_command" -l timeout -d 'timeout'
complete -c sluice -n "__fish_sluice_needs_command" -l daemon -d 'daemon'
complete -c sluice -n "__fish_sluice_needs_command" -l sort -d 'sort'
complete -c sluice -n "__fish_sluice_needs_command" -l nosort -d 'newest real server first'
complete -c sluice -n "__fish_sluice_needs_command" -l expire-quiescent -d 'expire quiescent'
complete -c sluice -n "__fish_sluice_needs_command" -l mss-clamp -d 'mss clamp'
complete -c sluice -n "__fish_sluice_needs_command" -l atomic -d 'atomic'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "status" -d 'Shows workers, ports, neighbours and counters'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "proc" -d 'Shows what the kernel\'s IPVS shows in its files of /proc/net'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "log" -d 'Shows or sets what sluiced logs'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "sysctl" -d 'Shows or sets IPVS\'s tunables while the daemon runs'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "check" -d 'Reads a configuration and says what is wrong with it'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "reload" -d 'Loads the changes of the configuration, touching nothing that did not change'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "diff" -d 'Shows where the running state and the file differ'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "neigh" -d 'Shows who is where on our links: MAC, state, age, frames that wait, who sends there'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "save" -d 'Prints the running state as a configuration'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "replay" -d 'Takes captures through the data plane, offline: no NIC, no root, the same result each time'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "trace" -d 'Follows one packet step by step, and says why each is taken: `sluice trace \'tcp 192.0.2.7:40000 > 10.0.0.1:80\'`'
complete -c sluice -n "__fish_sluice_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sluice -n "__fish_sluice_using_subcommand status" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand status" -l json -d 'As JSON, for programs'
complete -c sluice -n "__fish_sluice_using_subcommand proc" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand log" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand sysctl" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand sysctl" -l json -d 'As JSON, with default, range, meaning, and who set it'
complete -c sluice -n "__fish_sluice_using_subcommand check" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand reload" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand reload" -l json -d 'As JSON, for programs'
complete -c sluice -n "__fish_sluice_using_subcommand reload" -l dry-run -d 'Only say what would be done'
complete -c sluice -n "__fish_sluice_using_subcommand reload" -l take-file -d 'What commands made or changed becomes as the file has it'
complete -c sluice -n "__fish_sluice_using_subcommand diff" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand diff" -l json -d 'As JSON, for programs'
complete -c sluice -n "__fish_sluice_using_subcommand neigh" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand neigh" -l json -d 'As JSON, for programs'
complete -c sluice -n "__fish_sluice_using_subcommand save" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand save" -l json -d 'The services as JSON, for programs'
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l config -d 'The configuration, as sluiced reads it; devices are ignored' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l in -d 'A capture (pcap or pcapng) and the port that it comes in by; of equal times the first capture\'s packets come first' -r
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l out -d 'The folder for PORT.pcap of each port' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l commands -d 'Lines `SECONDS arguments` in ipvsadm\'s syntax, or `SECONDS sysctl [NAME[=VALUE]]`' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l workers -d 'Workers, whatever the configuration says' -r
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l arrive -d 'Which worker a frame comes to: the one that a NIC\'s hash chooses, or each in turn' -r -f -a "rss\t''
spread\t''"
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l burst -d 'Frames of one time that are taken at once, 32 at most; changes nothing in the output' -r
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l seed -d 'Fixes every random choice' -r
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand replay" -l json -d 'A line of JSON for each packet and command, on standard output'
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l config -d 'The configuration, as sluiced reads it; without one the running sluiced is asked' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l in -d 'A capture that is replayed first, and the port that it comes in by (the first, if none is named). The running sluiced is only shown the packet asked for' -r
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l packet -d 'The packet of the captures to trace, counted from 0' -r
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l commands -d 'Lines `SECONDS arguments`, as replay takes them' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l workers -d 'Workers, whatever the configuration says' -r
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l seed -d 'Fixes every random choice' -r
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l socket -d 'Where sluiced listens' -r -F
complete -c sluice -n "__fish_sluice_using_subcommand trace" -l json -d 'One line of JSON'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "status" -d 'Shows workers, ports, neighbours and counters'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "proc" -d 'Shows what the kernel\'s IPVS shows in its files of /proc/net'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "log" -d 'Shows or sets what sluiced logs'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "sysctl" -d 'Shows or sets IPVS\'s tunables while the daemon runs'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "check" -d 'Reads a configuration and says what is wrong with it'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "reload" -d 'Loads the changes of the configuration, touching nothing that did not change'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "diff" -d 'Shows where the running state and the file differ'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "neigh" -d 'Shows who is where on our links: MAC, state, age, frames that wait, who sends there'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "save" -d 'Prints the running state as a configuration'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "replay" -d 'Takes captures through the data plane, offline: no NIC, no root, the same result each time'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "trace" -d 'Follows one packet step by step, and says why each is taken: `sluice trace \'tcp 192.0.2.7:40000 > 10.0.0.1:80\'`'
complete -c sluice -n "__fish_sluice_using_subcommand help; and not __fish_seen_subcommand_from status proc log sysctl check reload diff neigh save replay trace help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
