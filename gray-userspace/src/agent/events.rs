//! From the kernel's event ring to the agent's subscribers. Drops what cannot be read; holds nothing up.

use std::{mem::offset_of, sync::Arc, time::Duration};

use gray_common::{
    Reason,
    wire::{self, Addr, PATH_CONNECT},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    core::Core,
    missing::{self, Said},
    names::{Names, arm_name, proto_name, socket_addr},
    quota::Quota,
    time,
};
use crate::api::types::{DecisionPath, Event, EventLine};

/// Events taken from the ring before others get a turn.
const BATCH: usize = 256;
const SECOND: Duration = Duration::from_secs(1);

/// Runs until the ring cannot be read any more, which does not happen while the agent lives. Needs a runtime.
pub async fn pump(core: Arc<Core>) {
    let ring = core.lock().live.events();
    let mut ring = match ring.map_err(|e| e.to_string()).and_then(watched) {
        Ok(ring) => ring,
        Err(error) => return tracing::error!(error, "no decision events: the ring cannot be read"),
    };
    let (mut names, mut quota) = (None, Quota::default());
    loop {
        let ready = tokio::select! {
            ready = ring.readable_mut() => ready,
            () = tokio::time::sleep(SECOND), if quota.holds() => {
                quota.settle();
                continue;
            }
        };
        let mut guard = match ready {
            Ok(guard) => guard,
            Err(error) => return tracing::error!(%error, "decision events end: the ring cannot be read"),
        };
        let mut batch = Vec::new();
        let empty = loop {
            if batch.len() == BATCH {
                break false;
            }
            match guard.get_inner_mut().next() {
                Some(record) => batch.extend(read(&record)),
                None => break true,
            }
        };
        if empty {
            guard.clear_ready();
        }
        publish(&core, &batch, &mut names, &mut quota);
        if !empty {
            tokio::task::yield_now().await;
        }
    }
}

type Ring = aya::maps::RingBuf<aya::maps::MapData>;

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that could change descriptors; the ring keeps its own"
)]
fn watched(ring: Ring) -> Result<AsyncFd<Ring>, String> {
    AsyncFd::with_interest(ring, Interest::READABLE).map_err(|e| e.to_string())
}

/// A record of the ring.
enum Record {
    Decision(wire::Event),
    Missing(Said),
}

fn read(record: &[u8]) -> Option<Record> {
    let event = parse(record)?;
    let plain = event.reason == Reason::RequestPlain as u8;
    Some(match missing::parse(record, event).filter(|_| plain) {
        Some(said) => Record::Missing(said),
        None => Record::Decision(event),
    })
}

/// `names`: those of the epoch that they were made for.
fn publish(core: &Core, batch: &[Record], names: &mut Option<(u64, Names)>, quota: &mut Quota) {
    let to_unix = time::monotonic_to_unix_ns();
    let followed = core.events.receiver_count() > 0;
    for record in batch {
        let e = match record {
            Record::Decision(_) if !followed => continue,
            Record::Decision(e) => e,
            Record::Missing(said) => &said.event,
        };
        if names.as_ref().is_none_or(|(epoch, _)| *epoch < e.epoch) {
            let inner = core.lock();
            *names = Some((e.epoch, Names::new(&inner.policy, &inner.compiled.assigned)));
        }
        let Some((_, names)) = names else { continue };
        let line = match record {
            Record::Decision(e) => EventLine::Event(event(e, names, to_unix)),
            Record::Missing(said) => {
                let e = missing::event(said, names, to_unix);
                missing::log(&e, quota);
                EventLine::Missing(e)
            }
        };
        // No receiver left: nobody misses it.
        let _ = core.events.send(line);
    }
}

pub(super) fn event(e: &wire::Event, names: &Names, to_unix: u64) -> Event {
    let mut client = socket_addr(e.client, e.client_port);
    // A socket that is not bound has no address yet; it gets one of the service's family.
    if e.client == Addr::default() && e.service_addr.is_v4() {
        client.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
    }
    let at = socket_addr(e.instance, e.instance_port);
    let service = u32::from(e.service);
    Event {
        at: time::rfc3339_micros(e.at_ns.wrapping_add(to_unix)),
        proto: proto_name(e.proto),
        service: names.service(service).into_owned(),
        client: client.to_string(),
        arm: arm_name(u32::from(e.arm)),
        rule: names.route(u32::from(e.rule)),
        reason: Reason::from_code(e.reason).map_or("unknown", Reason::label).into(),
        instance: (e.instance != Addr::default())
            .then(|| names.instance(service, at).map_or_else(|| at.to_string(), Into::into)),
        path: if e.path == PATH_CONNECT { DecisionPath::Connect } else { DecisionPath::Packet },
    }
}

/// A record of the ring. `None`: too short to be an event; longer ones are of a newer data path and begin the same.
pub(super) fn parse(record: &[u8]) -> Option<wire::Event> {
    fn bytes<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
        record.get(at..at + N)?.try_into().ok()
    }
    macro_rules! int {
        ($ty:ty, $field:ident) => {
            <$ty>::from_ne_bytes(bytes(record, offset_of!(wire::Event, $field))?)
        };
    }
    macro_rules! addr {
        ($field:ident) => {
            Addr(bytes(record, offset_of!(wire::Event, $field))?)
        };
    }
    Some(wire::Event {
        at_ns: int!(u64, at_ns),
        epoch: int!(u64, epoch),
        identity: int!(u64, identity),
        client: addr!(client),
        service_addr: addr!(service_addr),
        instance: addr!(instance),
        client_port: int!(u16, client_port),
        service_port: int!(u16, service_port),
        instance_port: int!(u16, instance_port),
        service: int!(u16, service),
        rule: int!(u16, rule),
        bucket: int!(u16, bucket),
        reason: int!(u8, reason),
        arm: int!(u8, arm),
        proto: int!(u8, proto),
        path: int!(u8, path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::testing, api::types::ArmName};

    const DOCUMENT: &str = "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.3:8080', version: '2.0', id: two }], stable: { version: '2.0' } }
";

    /// The record as the kernel lays it out.
    fn record() -> Vec<u8> {
        let v4 = |d: [u8; 4]| Addr::v4(u32::from_ne_bytes(d)).0;
        let mut r = Vec::new();
        r.extend(1_000_000_000u64.to_ne_bytes());
        r.extend(4u64.to_ne_bytes());
        r.extend(9u64.to_ne_bytes());
        r.extend(v4([198, 18, 1, 3]));
        r.extend(v4([198, 18, 1, 100]));
        r.extend(v4([198, 18, 2, 3]));
        for port in [40_000u16, 80, 8080] {
            r.extend(port.to_be_bytes());
        }
        for number in [0u16, 0, 0xffff] {
            r.extend(number.to_ne_bytes());
        }
        r.extend([Reason::Default as u8, 1, 6, PATH_CONNECT]);
        r
    }

    #[test]
    fn a_record_becomes_an_event() {
        let (policy, compiled) = testing::compiled(DOCUMENT);
        let names = Names::new(&policy, &compiled.assigned);
        let got = event(&parse(&record()).unwrap(), &names, 0);
        let want = Event {
            at: "1970-01-01T00:00:01.000000Z".into(),
            proto: "tcp".into(),
            service: "shop".into(),
            client: "198.18.1.3:40000".into(),
            arm: ArmName::Gray,
            rule: None,
            reason: "default".into(),
            instance: Some("two".into()),
            path: DecisionPath::Connect,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn no_record_is_too_short_or_too_odd() {
        let full = record();
        assert_eq!(full.len(), size_of::<wire::Event>());
        for n in 0..full.len() {
            assert_eq!(parse(&full[..n]), None, "{n} bytes");
        }
        assert!(parse(&[full.clone(), vec![0; 8]].concat()).is_some());
        let (policy, compiled) = testing::compiled(DOCUMENT);
        let names = Names::new(&policy, &compiled.assigned);
        let odd = event(&parse(&[0xff; 88]).unwrap(), &names, u64::MAX);
        assert_eq!((odd.service.as_str(), odd.reason.as_str()), ("#65535", "unknown"));
        let unbound = wire::Event { client: Addr::default(), client_port: 0, ..parse(&full).unwrap() };
        assert_eq!(event(&unbound, &names, 0).client, "0.0.0.0:0");
    }
}
