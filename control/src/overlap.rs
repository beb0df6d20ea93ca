//! Services that may have connections of one and the same tuple, and what follows for who owns
//! them.
//!
//! Which service takes a packet decides which worker owns its connection. Where two services can
//! take the same packet (one on all ports beside one on a single port; a mark beside an address; a
//! service that was removed, whose connections last), the connection may have been made under the
//! other one's fields. So whoever would open a connection has asked the owners by those as well:
//! they are the service's *rivals* ([`dataplane::owner::Owners`]). Services that overlap with nobody
//! have none, and pay nothing.
//!
//! A mark that goes by the port that a packet came by can be met and missed by one tuple at the
//! same time. Asking is not enough then, because two packets may ask before either connection is
//! there. All services that overlap in such a configuration have the same fields, so that one
//! worker opens connections of the tuple, whichever service takes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use config::model::{Family, Listen, Protocol};
use dataplane::owner::Fields;
use dataplane::services::FTP;
use dataplane::services::marks::Rule;

/// From where active FTP's data comes, and the lowest port that passive FTP's goes to.
const FTP_DATA: u16 = 20;
const UNPRIVILEGED: u16 = 1024;

/// What is known of one service.
#[derive(Debug, Default)]
struct Known {
    /// What it would go by on its own; `None` once it is removed.
    own: Option<Fields>,
    /// What it has to go by because of others.
    common: Option<Fields>,
    /// What its connections may have been made under.
    listed: Vec<Fields>,
    /// The same of the services that it overlaps with, and of how many of them.
    around: BTreeMap<Fields, u32>,
}

/// A rule that was in force.
#[derive(Debug)]
struct Former {
    rule: Rule,
    /// From which generation on it is not.
    until: u64,
}

/// All services, those in the trash included.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    rules: Vec<Rule>,
    former: Vec<Former>,
    known: HashMap<Listen, Known>,
    by_address: HashMap<(u8, IpAddr), BTreeSet<u16>>,
    marks: BTreeSet<(u32, bool)>,
    /// Services whose rivals or common fields may be others than workers know.
    changed: HashSet<Listen>,
    /// Those that wait until older connections have ended, to be tried when some have.
    retry: HashSet<Listen>,
    /// Whether some rule goes by the port that a packet came by.
    by_port: bool,
    /// Whether some service goes by common fields.
    grouped: bool,
    /// Whether the groups with common fields are to be found anew.
    regroup: bool,
}

impl Overlaps {
    /// From `generation` on marks are given by these rules.
    pub(crate) fn set_rules(&mut self, rules: &[Rule], generation: u64) {
        let old = std::mem::replace(&mut self.rules, rules.to_vec());
        let gone = old.into_iter().filter(|rule| !rules.contains(rule));
        let until = generation;
        self.former.extend(gone.map(|rule| Former { rule, until }));
        self.former.retain(|former| !rules.contains(&former.rule));
        self.start_over();
    }

    /// Forgets the rules of former days whose marks have no connections left; `seen` is the oldest
    /// generation that some worker runs with.
    pub(crate) fn forget_rules(&mut self, seen: u64, is_idle: impl Fn(u32) -> bool) {
        let before = self.former.len();
        self.former
            .retain(|former| former.until > seen || !is_idle(former.rule.mark));
        if self.former.len() < before {
            self.start_over();
        }
    }

    /// All that services have to do with each other may be otherwise.
    fn start_over(&mut self) {
        let all: Vec<_> = self.known.keys().copied().collect();
        for listen in &all {
            let around = self.sum_up(listen);
            if let Some(known) = self.known.get_mut(listen) {
                known.around = around;
            }
        }
        self.changed.extend(all);
        let by_port = self.all_rules().any(|rule| rule.entry.is_some());
        self.by_port = by_port;
        self.regroup = true;
    }

    /// A service would go by these fields on its own; `None`: it is removed.
    pub(crate) fn want(&mut self, listen: &Listen, own: Option<Fields>) {
        if own.is_none() && !self.known.contains_key(listen) {
            return;
        }
        if !self.known.contains_key(listen) {
            self.enter(listen);
        }
        let known = self.known.get_mut(listen).expect("entered");
        if known.own != own {
            known.own = own;
            self.changed.insert(*listen);
            self.regroup = true;
        }
    }

    fn enter(&mut self, listen: &Listen) {
        match *listen {
            Listen::Address {
                protocol,
                address,
                port,
            } => {
                let key = (protocol.number(), address);
                self.by_address.entry(key).or_default().insert(port);
            }
            Listen::Mark { mark, family } => {
                self.marks.insert((mark, family == Family::V6));
            }
        }
        let around = self.sum_up(listen);
        let known = Known {
            around,
            ..Known::default()
        };
        self.known.insert(*listen, known);
        self.changed.insert(*listen);
    }

    /// A service's connections may have been made under these fields.
    pub(crate) fn list(&mut self, listen: &Listen, listed: Vec<Fields>) {
        let Some(known) = self.known.get_mut(listen) else {
            return;
        };
        if known.listed == listed {
            return;
        }
        let before = std::mem::replace(&mut known.listed, listed.clone());
        self.changed.insert(*listen);
        self.changed.extend(self.retry.iter().copied());
        for other in self.neighbours(listen) {
            let around = &mut self.known.get_mut(&other).expect("known").around;
            let kinds: Vec<Fields> = around.keys().copied().collect();
            listed
                .iter()
                .for_each(|&fields| *around.entry(fields).or_default() += 1);
            before.iter().for_each(|fields| take_one(around, fields));
            if !around.keys().eq(&kinds) {
                self.changed.insert(other);
            }
        }
    }

    /// A removed service has no connections any more.
    pub(crate) fn forget(&mut self, listen: &Listen) {
        self.list(listen, Vec::new());
        self.known.remove(listen);
        self.changed.remove(listen);
        self.retry.remove(listen);
        self.regroup = true;
        match *listen {
            Listen::Address {
                protocol,
                address,
                port,
            } => {
                let key = (protocol.number(), address);
                if let Some(ports) = self.by_address.get_mut(&key) {
                    ports.remove(&port);
                    if ports.is_empty() {
                        self.by_address.remove(&key);
                    }
                }
            }
            Listen::Mark { mark, family } => {
                self.marks.remove(&(mark, family == Family::V6));
            }
        }
    }

    /// Finds the services anew that have to go by common fields.
    pub(crate) fn settle(&mut self) {
        let regroup = std::mem::take(&mut self.regroup);
        if !regroup || !self.by_port && !self.grouped {
            return;
        }
        let mut common: HashMap<Listen, Fields> = HashMap::new();
        if self.by_port {
            let mut left: BTreeSet<Listen> = self.known.keys().copied().collect();
            while let Some(first) = left.pop_first() {
                let group = self.group(first, &mut left);
                if let Some(fields) = self.common_of(&group) {
                    common.extend(group.into_iter().map(|listen| (listen, fields)));
                }
            }
        }
        self.grouped = !common.is_empty();
        for (listen, known) in &mut self.known {
            let now = common.get(listen).copied();
            if known.common != now {
                known.common = now;
                self.changed.insert(*listen);
            }
        }
    }

    /// Everybody whom a chain of marks connects with `first`; they are taken out of `left`.
    fn group(&self, first: Listen, left: &mut BTreeSet<Listen>) -> Vec<Listen> {
        let mut group = vec![first];
        let mut at = 0;
        while let Some(&listen) = group.get(at) {
            for other in self.neighbours(&listen) {
                let by_mark = [listen, other].iter().any(|it| it.address().is_none());
                if by_mark && left.remove(&other) {
                    group.push(other);
                }
            }
            at += 1;
        }
        group
    }

    /// What a group can go by; `None`: each by its own, because they agree, or it is alone.
    fn common_of(&self, group: &[Listen]) -> Option<Fields> {
        let own = || group.iter().filter_map(|listen| self.known[listen].own);
        let first = own().next()?;
        own().any(|fields| fields != first).then(|| together(own()))
    }

    /// What a service goes by.
    pub(crate) fn fields(&self, listen: &Listen) -> Option<Fields> {
        let known = self.known.get(listen)?;
        known.own.map(|own| known.common.unwrap_or(own))
    }

    /// By what others that it overlaps with may own its tuples, and it doesn't.
    pub(crate) fn rivals(&self, listen: &Listen) -> Vec<Fields> {
        let Some(known) = self.known.get(listen) else {
            return Vec::new();
        };
        let around = known.around.keys().copied();
        around
            .filter(|fields| !known.listed.contains(fields))
            .collect()
    }

    /// The services of which something may be otherwise.
    pub(crate) fn changed(&self) -> Vec<Listen> {
        let mut changed: Vec<_> = self.changed.iter().copied().collect();
        changed.sort_unstable();
        changed
    }

    /// The same, for the last time.
    pub(crate) fn take_changed(&mut self) -> Vec<Listen> {
        let mut changed: Vec<_> = self.changed.drain().collect();
        changed.sort_unstable();
        changed
    }

    /// A service has its fields.
    pub(crate) fn done(&mut self, listen: &Listen) {
        self.retry.remove(listen);
    }

    /// A service can't have its fields yet; says whether that is new.
    pub(crate) fn retry(&mut self, listen: &Listen) -> bool {
        self.retry.insert(*listen)
    }

    /// Whether there is something that [`Overlaps::take_changed`] gives.
    pub(crate) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules
            .iter()
            .chain(self.former.iter().map(|former| &former.rule))
    }

    /// What the services around one list.
    fn sum_up(&self, listen: &Listen) -> BTreeMap<Fields, u32> {
        let mut around = BTreeMap::new();
        for other in self.neighbours(listen) {
            for &fields in &self.known[&other].listed {
                *around.entry(fields).or_default() += 1;
            }
        }
        around
    }

    /// The services that may take a tuple that `listen` may take.
    fn neighbours(&self, listen: &Listen) -> Vec<Listen> {
        let mut all = Vec::new();
        match *listen {
            Listen::Address {
                protocol,
                address,
                port,
            } => {
                let key = (protocol.number(), address);
                let ports = self.by_address.get(&key).filter(|ports| ports.len() > 1);
                let others = ports.map(|ports| others(protocol, port, ports));
                all.extend(
                    others
                        .unwrap_or_default()
                        .into_iter()
                        .map(|port| Listen::Address {
                            protocol,
                            address,
                            port,
                        }),
                );
            }
            Listen::Mark { .. } => {
                let addresses = self.known.keys().filter(|other| other.address().is_some());
                all.extend(addresses.filter(|other| self.marks_meet(listen, other)));
            }
        }
        let marks = self.marks.iter().map(|&(mark, v6)| Listen::Mark {
            mark,
            family: if v6 { Family::V6 } else { Family::V4 },
        });
        all.extend(marks.filter(|other| other != listen && self.marks_meet(other, listen)));
        all.retain(|other| self.known.contains_key(other));
        all
    }

    /// Whether the service of a mark may take a tuple that another one may take.
    fn marks_meet(&self, marked: &Listen, other: &Listen) -> bool {
        let &Listen::Mark { mark, family } = marked else {
            return false;
        };
        if other.family() != family {
            return false;
        }
        let mut rules = self.all_rules().filter(|rule| rule.mark == mark);
        match *other {
            Listen::Address {
                protocol,
                address,
                port,
            } => rules.any(|rule| {
                let ports = taken_by(protocol, port);
                let near = rule.to.is_none_or(|network| network.contains(address));
                let same = rule.protocol.is_none_or(|it| it == protocol.number());
                near && same
                    && ports.iter().any(|(first, last)| {
                        rule.ports.start() <= last && first <= rule.ports.end()
                    })
            }),
            Listen::Mark { mark: other, .. } => rules.any(|rule| {
                self.all_rules()
                    .any(|it| it.mark == other && it.meets(rule))
            }),
        }
    }
}

fn take_one(around: &mut BTreeMap<Fields, u32>, fields: &Fields) {
    if let Some(count) = around.get_mut(fields) {
        *count -= 1;
        if *count == 0 {
            around.remove(fields);
        }
    }
}

/// The ports of packets that a service on `port` may take, first and last.
fn taken_by(protocol: Protocol, port: u16) -> Vec<(u16, u16)> {
    match port {
        0 => vec![(0, u16::MAX)],
        FTP if protocol == Protocol::Tcp => {
            vec![(FTP, FTP), (FTP_DATA, FTP_DATA), (UNPRIVILEGED, u16::MAX)]
        }
        port => vec![(port, port)],
    }
}

/// The services on one address and these `ports` that may take a packet that the one on `port` may
/// take.
fn others(protocol: Protocol, port: u16, ports: &BTreeSet<u16>) -> Vec<u16> {
    let mut all = Vec::new();
    for (first, last) in taken_by(protocol, port) {
        all.extend(ports.range(first..=last));
    }
    let ftp = protocol == Protocol::Tcp && (port == FTP_DATA || port >= UNPRIVILEGED);
    all.extend(ports.get(&0));
    all.extend(ports.get(&FTP).filter(|_| ftp));
    all.retain(|&other| other != port);
    all.sort_unstable();
    all.dedup();
    all
}

/// Fields by which one worker owns whatever each of `all` has to have on one worker, and which both
/// directions of NAT show: what `lblc` remembers of a destination is each worker's own then.
fn together(all: impl Iterator<Item = Fields> + Clone) -> Fields {
    let mask = |fields| match fields {
        Fields::ClientNetwork(mask) => Some(mask),
        _ => None,
    };
    let masks = all.clone().filter_map(mask);
    match masks.reduce(|one, other| one & other) {
        Some(mask) => Fields::ClientNetwork(mask),
        None if all.clone().all(|fields| fields == Fields::Tuple) => Fields::Tuple,
        None => Fields::Client,
    }
}

#[cfg(test)]
mod tests {
    use dataplane::port::PortId;
    use dataplane::services::marks::Network;

    use super::*;

    fn at(port: u16) -> Listen {
        format!("tcp 192.0.2.10:{port}").parse().expect("a service")
    }

    fn marked(mark: u32) -> Listen {
        format!("fwm {mark}").parse().expect("a service")
    }

    fn rule(mark: u32, to: &str, entry: Option<u16>) -> Rule {
        let (address, length) = to.split_once('/').expect("a network");
        let address = address.parse().expect("an address");
        Rule {
            mark,
            protocol: None,
            from: None,
            to: Some(Network::new(address, length.parse().expect("a length"))),
            ports: 0..=u16::MAX,
            entry: entry.map(PortId),
        }
    }

    const NETWORK: Fields = Fields::ClientNetwork(0xffff_ff00);
    const HOST: Fields = Fields::ClientNetwork(0xffff_ffff);

    /// These services, each by its own fields, all at once.
    fn services(rules: &[Rule], all: &[(Listen, Fields)]) -> Overlaps {
        let mut overlaps = Overlaps::default();
        overlaps.set_rules(rules, 1);
        for &(listen, fields) in all {
            overlaps.want(&listen, Some(fields));
        }
        overlaps.settle();
        for (listen, _) in all {
            let fields = overlaps.fields(listen).expect("wanted");
            overlaps.list(listen, vec![fields]);
        }
        overlaps
    }

    #[test]
    fn only_services_that_may_take_one_packet_are_rivals() {
        let all = [
            (at(80), Fields::Tuple),
            (at(443), Fields::Client),
            (at(0), NETWORK),
            (at(21), HOST),
            (at(3000), Fields::Destination),
        ];
        let overlaps = services(&[], &all);
        let rivals = |port| overlaps.rivals(&at(port));
        assert_eq!(rivals(80), [NETWORK]);
        assert_eq!(rivals(443), [NETWORK]);
        assert_eq!(rivals(21), [NETWORK, Fields::Destination]);
        assert_eq!(rivals(3000), [NETWORK, HOST]);
        assert_eq!(
            rivals(0),
            [Fields::Tuple, Fields::Client, HOST, Fields::Destination]
        );
        let alone = services(&[], &all[..2]);
        assert!(alone.rivals(&at(80)).is_empty() && alone.rivals(&at(443)).is_empty());
    }

    #[test]
    fn one_that_was_removed_is_a_rival_until_it_is_forgotten() {
        let mut overlaps = services(&[], &[(at(80), Fields::Tuple), (at(0), NETWORK)]);
        overlaps.want(&at(80), None);
        assert_eq!(overlaps.fields(&at(80)), None);
        assert_eq!(overlaps.rivals(&at(0)), [Fields::Tuple]);
        overlaps.take_changed();
        overlaps.forget(&at(80));
        assert_eq!(overlaps.take_changed(), [at(0)]);
        assert!(overlaps.rivals(&at(0)).is_empty());
    }

    #[test]
    fn older_fields_count_as_long_as_they_are_listed() {
        let mut overlaps = services(&[], &[(at(80), Fields::Tuple), (at(0), NETWORK)]);
        overlaps.list(&at(80), vec![Fields::Tuple, Fields::Client]);
        assert_eq!(overlaps.rivals(&at(0)), [Fields::Tuple, Fields::Client]);
        overlaps.list(&at(80), vec![Fields::Client]);
        assert_eq!(overlaps.rivals(&at(0)), [Fields::Client]);
        overlaps.list(&at(80), vec![NETWORK]);
        assert!(overlaps.rivals(&at(0)).is_empty(), "they agree");
    }

    #[test]
    fn a_mark_is_the_rival_of_what_its_rules_meet() {
        let rules = [
            rule(5, "192.0.2.0/28", None),
            rule(6, "192.0.2.128/25", None),
            rule(7, "2001:db8::/32", None),
        ];
        let v6: Listen = "fwm 7 ipv6".parse().expect("a service");
        let overlaps = services(
            &rules,
            &[
                (at(80), Fields::Client),
                (marked(5), NETWORK),
                (marked(6), HOST),
                (v6, HOST),
            ],
        );
        assert_eq!(overlaps.rivals(&at(80)), [NETWORK]);
        assert_eq!(overlaps.rivals(&marked(5)), [Fields::Client]);
        assert!(overlaps.rivals(&marked(6)).is_empty() && overlaps.rivals(&v6).is_empty());
        assert_eq!(
            overlaps.fields(&at(80)),
            Some(Fields::Client),
            "nothing in common is wanted"
        );
    }

    #[test]
    fn a_rule_of_former_days_counts_until_its_mark_is_idle() {
        let all = [(at(80), Fields::Client), (marked(5), NETWORK)];
        let mut overlaps = services(&[rule(5, "192.0.2.0/24", None)], &all);
        overlaps.set_rules(&[], 7);
        assert_eq!(overlaps.rivals(&at(80)), [NETWORK]);
        overlaps.forget_rules(6, |_| true);
        assert_eq!(
            overlaps.rivals(&at(80)),
            [NETWORK],
            "some worker may still go by it"
        );
        overlaps.forget_rules(7, |_| false);
        assert_eq!(overlaps.rivals(&at(80)), [NETWORK], "it has connections");
        overlaps.forget_rules(7, |mark| mark == 5);
        assert!(overlaps.rivals(&at(80)).is_empty());
    }

    #[test]
    fn where_one_tuple_has_two_services_at_a_time_they_go_by_common_fields() {
        let by_port = [
            rule(5, "192.0.2.0/24", Some(0)),
            rule(6, "198.51.100.0/24", None),
        ];
        #[rustfmt::skip]
        let cases = [
            ("they agree anyway",      Fields::Tuple,       Fields::Tuple,       Fields::Tuple),
            ("NAT's both directions",  Fields::Tuple,       Fields::Client,      Fields::Client),
            ("a client's template",    Fields::Client,      NETWORK,             NETWORK),
            ("the coarser network",    HOST,                NETWORK,             NETWORK),
            ("a destination's memory", Fields::Destination, Fields::Tuple,       Fields::Client),
            ("as long as both have",   Fields::Destination, Fields::Destination, Fields::Destination),
        ];
        for (name, one, other, want) in cases {
            let all = [(at(80), one), (marked(5), other), (marked(6), HOST)];
            let mut overlaps = services(&by_port, &all);
            assert_eq!(overlaps.fields(&at(80)), Some(want), "{name}");
            assert_eq!(overlaps.fields(&marked(5)), Some(want), "{name}");
            assert_eq!(
                overlaps.fields(&marked(6)),
                Some(HOST),
                "{name}: it meets nobody"
            );
            overlaps.want(&marked(5), None);
            overlaps.settle();
            assert_eq!(overlaps.fields(&at(80)), Some(one), "{name}: alone again");
        }
        let all = [(at(80), Fields::Tuple), (at(0), NETWORK)];
        let overlaps = services(&by_port[1..], &all);
        assert_eq!(
            overlaps.fields(&at(80)),
            Some(Fields::Tuple),
            "never both at a time"
        );
    }

    #[test]
    fn ten_thousand_services_cost_what_they_have_to_do_with_each_other() {
        let mut overlaps = Overlaps::default();
        overlaps.set_rules(&[rule(5, "192.0.2.0/24", None)], 1);
        overlaps.want(&marked(5), Some(NETWORK));
        for port in 1..10_001 {
            overlaps.want(&at(port), Some(Fields::Tuple));
            overlaps.list(&at(port), vec![Fields::Tuple]);
        }
        assert_eq!(overlaps.rivals(&marked(5)), [Fields::Tuple]);
        overlaps.take_changed();
        overlaps.list(&at(77), vec![Fields::Client]);
        assert_eq!(overlaps.take_changed(), [at(77), marked(5)]);
        overlaps.list(&at(78), vec![Fields::Client]);
        assert_eq!(
            overlaps.take_changed(),
            [at(78)],
            "the mark knows that already"
        );
    }
}
