//! What fuzzing found, by name. Where it could be said in packets, the test beside the code says
//! it; here are the inputs as they were found.

/// `an_error_fits_its_link` in `dataplane/tests/rewrite.rs`.
#[test]
fn an_icmp_error_for_a_link_of_68_octets_was_72_long() {
    fuzz_bodies::turn(include_bytes!("found/error-too-long-for-its-link.turn"));
}

/// Each of the two may have it, on a worker of its own: open, see `docs/fuzzing.md`. What holds
/// is that neither has it twice.
#[test]
fn a_tuple_came_by_two_ports_whose_marks_lead_to_two_services() {
    fuzz_bodies::turn(include_bytes!("found/two-services-one-tuple.turn"));
}
