//! `-h` and `-v`.

/// What `ipvsadm -v` prints.
pub const IPVSADM_VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// What `PROGRAM -v` prints: the version that scripts expect of ipvsadm, or Sluice's own.
pub fn version(program: &str) -> String {
    if program
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("ipvsadm"))
    {
        IPVSADM_VERSION.to_owned()
    } else {
        format!("sluice {}\n", env!("CARGO_PKG_VERSION"))
    }
}

/// What `PROGRAM -h` prints.
pub fn help(program: &str) -> String {
    format!(
        "\
Usage: {program} COMMAND [OPTIONS]      without a command: list every service

Services
  {program} -A|-E SERVICE [-s NAME] [-p [SECONDS]] [-M MASK] [--pe NAME] [-o] [-b FLAGS]
  {program} -D SERVICE
  {program} -C
Real servers
  {program} -a|-e SERVICE -r ADDRESS[:PORT] [-g|-i|-m|-b] [-w N] [-x N] [-y N] [TUNNEL]
  {program} -d SERVICE -r ADDRESS[:PORT]
Listing, saving, loading
  {program} -L|-l [SERVICE] [-n] [-X] [--nosort] [VIEW]
  {program} -S [-n]
  {program} -R [--atomic]
  {program} -Z [SERVICE]
Timeouts and synchronisation
  {program} --set TCP TCPFIN UDP
  {program} --start-daemon master|backup [--mcast-interface NAME] [--syncid N]
      [--sync-maxlen N] [--mcast-group ADDRESS] [--mcast-port N] [--mcast-ttl N]
  {program} --stop-daemon master|backup [--syncid N]
FULLNAT's local addresses, block and allow lists
  {program} -P|-Q SERVICE -z ADDRESS -F PORT        {program} -G [SERVICE]
  {program} -U|-V SERVICE -k ADDRESS[/LENGTH]       {program} -B [SERVICE]
  {program} -O|-Y SERVICE -2 ADDRESS[/LENGTH]       {program} -W [SERVICE]

The command comes first; short options may be written together (-Ln).

Commands
  -A, --add-service       add a service
  -E, --edit-service      replace all its settings
  -D, --delete-service    remove it and its real servers
  -C, --clear             remove every service
  -a, --add-server        add a real server
  -e, --edit-server       replace all its settings
  -d, --delete-server     remove it
  -L, -l, --list          list services, or what VIEW says
  -S, --save              print the calls that make what there is
  -R, --restore           run the calls on standard input, one a line
  -Z, --zero              start counting anew
      --set               timeouts in seconds; 0 leaves one as it is
  -h, --help   -v, --version

SERVICE
  -t, --tcp-service ADDRESS[:PORT]      -u, --udp-service ADDRESS[:PORT]
      --sctp-service ADDRESS[:PORT]     -f, --fwmark-service N [-6]
  An IPv6 address with a port is written [ADDRESS]:PORT.

Settings of a service
  -s, --scheduler NAME    how a real server is chosen (wlc)
  -p, --persistent [N]    a client keeps its real server for N seconds (360)
  -M, --netmask MASK      what of its address makes a client (all of it)
      --pe NAME           persistence engine
  -o, --ops               each packet for itself (UDP and marks)
  -b, --sched-flags LIST  sh-port, sh-fallback, mh-port, mh-fallback, flag-1, flag-2, flag-3
  -j, --synproxy enable|disable         --conn-timeout SECONDS
      --proxy-protocol disable|v1|v2|v1-insecure|v2-insecure
      --client-address none|toa|proxy-v1|...   the same setting, and TOA
      --expire-quiescent  connections end with weight 0        --mss-clamp

Settings of a real server
  -g, --gatewaying        direct routing (this is the default)
  -i, --ipip              tunnel: --tun-type ipip|gue|gre, --tun-port N,
                          --tun-nocsum, --tun-csum, --tun-remcsum
  -m, --masquerading      NAT
  -b, --fullnat           NAT of both addresses
  -w, --weight N          0 to 65535 (1)
  -x, --u-threshold N     most connections (0: no limit)
  -y, --l-threshold N     fewer than this and it is chosen again

VIEW
  --stats  --rate  --thresholds  --persistent-conn  --tun-info
  -c, --connection  --timeout  --daemon
  -n, --numeric           numbers instead of names
  -X, --exact             numbers in full
      --nosort            newest real server first
"
    )
}
