complete -c ipvsadm -l start-daemon -d 'start daemon' -r
complete -c ipvsadm -l stop-daemon -d 'stop daemon' -r
complete -c ipvsadm -s t -l tcp-service -d 'tcp service' -r
complete -c ipvsadm -s u -l udp-service -d 'udp service' -r
complete -c ipvsadm -l sctp-service -d 'sctp service' -r
complete -c ipvsadm -s f -l fwmark-service -d 'fwmark service' -r
complete -c ipvsadm -s s -l scheduler -d 'how a real server is chosen (wlc)' -r
complete -c ipvsadm -s b -l sched-flags -d 'sh-port, sh-fallback, mh-port, mh-fallback, flag-1, flag-2, flag-3' -r
complete -c ipvsadm -s p -l persistent -d 'a client keeps its real server for N seconds (360)' -r
complete -c ipvsadm -s M -l netmask -d 'what of its address makes a client (all of it)' -r
complete -c ipvsadm -l pe -d 'a client keeps its real server for N seconds (360)' -r
complete -c ipvsadm -s r -l real-server -d 'real server' -r
complete -c ipvsadm -s w -l weight -d '0 to 65535 (1)' -r
complete -c ipvsadm -s x -l u-threshold -d 'most connections (0: no limit)' -r
complete -c ipvsadm -s y -l l-threshold -d 'fewer than this and it is chosen again' -r
complete -c ipvsadm -l tun-type -d 'tun type' -r
complete -c ipvsadm -l tun-port -d 'tun port' -r
complete -c ipvsadm -l mcast-interface -d 'mcast interface' -r
complete -c ipvsadm -l syncid -d 'syncid' -r
complete -c ipvsadm -l sync-maxlen -d 'sync maxlen' -r
complete -c ipvsadm -l mcast-group -d 'mcast group' -r
complete -c ipvsadm -l mcast-port -d 'mcast port' -r
complete -c ipvsadm -l mcast-ttl -d 'mcast ttl' -r
complete -c ipvsadm -s z -l laddr -d 'laddr' -r
complete -c ipvsadm -s F -l ifname -d 'ifname' -r
complete -c ipvsadm -s k -l blklst -d 'blklst' -r
complete -c ipvsadm -s 2 -l whtlst -d 'whtlst' -r
complete -c ipvsadm -s j -l synproxy -d 'synproxy' -r
complete -c ipvsadm -l conn-timeout -d 'conn timeout' -r
complete -c ipvsadm -l proxy-protocol -d 'proxy protocol' -r
complete -c ipvsadm -l client-address -d 'client address' -r
complete -c ipvsadm -s A -l add-service -d 'add a service'
complete -c ipvsadm -s E -l edit-service -d 'replace all its settings'
complete -c ipvsadm -s D -l delete-service -d 'remove it and its real servers'
complete -c ipvsadm -s C -l clear -d 'remove every service'
complete -c ipvsadm -s a -l add-server -d 'add a real server'
complete -c ipvsadm -s e -l edit-server -d 'replace all its settings'
complete -c ipvsadm -s d -l delete-server -d 'remove it'
complete -c ipvsadm -s L -l list -d 'list services, or what VIEW says'
complete -c ipvsadm -s S -l save -d 'print the calls that make what there is'
complete -c ipvsadm -s R -l restore -d 'run the calls on standard input, one a line'
complete -c ipvsadm -s Z -l zero -d 'start counting anew'
complete -c ipvsadm -l set -d 'timeouts in seconds; 0 leaves one as it is'
complete -c ipvsadm -s P -l add-laddr -d 'add laddr'
complete -c ipvsadm -s Q -l del-laddr -d 'del laddr'
complete -c ipvsadm -s G -l get-laddr -d 'get laddr'
complete -c ipvsadm -s U -l add-blklst -d 'add blklst'
complete -c ipvsadm -s V -l del-blklst -d 'del blklst'
complete -c ipvsadm -s B -l get-blklst -d 'get blklst'
complete -c ipvsadm -s O -l add-whtlst -d 'add whtlst'
complete -c ipvsadm -s Y -l del-whtlst -d 'del whtlst'
complete -c ipvsadm -s W -l get-whtlst -d 'get whtlst'
complete -c ipvsadm -s h -l help -d 'help'
complete -c ipvsadm -s v -l version -d 'version'
complete -c ipvsadm -s 6 -l ipv6 -d 'ipv6'
complete -c ipvsadm -s o -l ops -d 'each packet for itself (UDP and marks)'
complete -c ipvsadm -s g -l gatewaying -d 'direct routing (this is the default)'
complete -c ipvsadm -s i -l ipip -d 'ipip'
complete -c ipvsadm -s m -l masquerading -d 'NAT'
complete -c ipvsadm -l fullnat -d 'NAT of both addresses'
complete -c ipvsadm -l tun-nocsum -d 'tun nocsum'
complete -c ipvsadm -l tun-csum -d 'tun csum'
complete -c ipvsadm -l tun-remcsum -d 'tun remcsum'
complete -c ipvsadm -s c -l connection -d 'connection'
complete -c ipvsadm -s n -l numeric -d 'numbers instead of names'
complete -c ipvsadm -l stats -d 'stats'
complete -c ipvsadm -l rate -d 'rate'
complete -c ipvsadm -l thresholds -d 'thresholds'
complete -c ipvsadm -l persistent-conn -d 'persistent conn'
complete -c ipvsadm -l tun-info -d 'tun info'
complete -c ipvsadm -s X -l exact -d 'numbers in full'
complete -c ipvsadm -l timeout -d 'timeout'
complete -c ipvsadm -l daemon -d 'daemon'
complete -c ipvsadm -l sort -d 'sort'
complete -c ipvsadm -l nosort -d 'newest real server first'
complete -c ipvsadm -l expire-quiescent -d 'expire quiescent'
complete -c ipvsadm -l mss-clamp -d 'mss clamp'
complete -c ipvsadm -l atomic -d 'atomic'
