//! Fuzz targets of what the agent reads: records of the event ring, requests to explain.

use super::{
    events::{event, parse},
    missing,
    names::Names,
    testing,
};
pub use crate::agent::explain::fuzz::explain;

const DOCUMENT: &str = "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.3:8080', version: '2.0', id: two }], stable: { version: '2.0' } }
";

thread_local!(static NAMES: Names = {
    let (policy, compiled) = testing::compiled(DOCUMENT);
    Names::new(&policy, &compiled.assigned)
});

pub fn events(data: &[u8]) {
    let whole = data.len() >= size_of::<gray_common::wire::Event>();
    let record = parse(data);
    assert_eq!(record.is_some(), whole, "{} bytes", data.len());
    let Some(record) = record else { return };
    let to_unix = record.identity;
    NAMES.with(|names| {
        let e = event(&record, names, to_unix);
        assert!(e.client.parse::<std::net::SocketAddr>().is_ok(), "{e:?}");
        assert!(serde_json::to_string(&e).is_ok_and(|line| !line.contains('\n')), "{e:?}");
        if let Some(said) = missing::parse(data, record) {
            let e = missing::event(&said, names, to_unix);
            let shown = [&e.request, &e.server_name].into_iter().flatten().chain(&e.headers);
            assert!(shown.into_iter().all(|text| !text.contains(char::is_control)), "{e:?}");
        }
    });
}
