//! The configuration file: whatever the bytes, an answer; and what is legal can be written,
//! read again, and run.

use config::message::Errors;
use config::model::{Config, Port, ReturnTo};
use config::toml::{self, Loaded};
use control::engine::Engine;
use control::topology::{PortSetup, Topology};
use wire::ethernet::Mac;

/// Reads a file, and if it is legal, writes it, reads that, and makes an engine of it.
///
/// # Panics
/// If a message is no line, or what was written reads differently.
pub fn run(data: &[u8]) {
    match toml::read_bytes(data, "lb.toml") {
        Ok(loaded) => legal(&loaded),
        Err(errors) => lines(&errors),
    }
}

fn lines(errors: &Errors) {
    assert!(!errors.0.is_empty(), "an error says what is wrong");
    for message in &errors.0 {
        let text = message.to_string();
        assert!(!text.contains(['\n', '\r']), "{text:?}");
    }
}

fn legal(loaded: &Loaded) {
    let text = toml::write(&loaded.config);
    let again = toml::read(&text, "lb.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(again.config, loaded.config, "{text}");
    if loaded.not_built.is_empty() {
        assert!(again.not_built.is_empty(), "{text}");
        // Commands would refuse some of what a file may say, and so may the engine.
        let _ = Engine::new(&loaded.config, topology(&loaded.config), 1, 0);
    }
}

fn topology(config: &Config) -> Topology {
    let setup = |port: &Port| PortSetup {
        name: port.name.clone(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        any_mac: port.mac.is_none(),
        mtu: port.mtu,
        to_sender: port.return_to == ReturnTo::Sender,
        addresses: port.addresses.clone(),
    };
    let with_queues = config.ports.iter().filter(|port| port.vlan.is_none());
    Topology::new(with_queues.map(setup).collect(), config)
}
