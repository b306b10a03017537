//! The flow tables' entries: looked up, walked, removed. Those that opened during a flood are in tables apart (ADR 20).

use gray_common::{
    request::cookie::Tuple,
    wire::{Bound, Flow4, Flow6, FlowKey4, FlowKey6},
};

use super::{super::bpf::Map, KernelError, Live, failed};

/// Both, as they are now.
pub struct FlowTables {
    v4: Map<FlowKey4, Flow4>,
    v6: Map<FlowKey6, Flow6>,
    splices: Map<Tuple, Bound>,
}

impl FlowTables {
    /// Entries of each: the kernel keeps no count of them.
    pub fn entries(&self) -> Result<[u64; 2], KernelError> {
        let (mut v4, mut v6) = (0, 0);
        let walk = self.v4.for_each(|_, _| v4 += 1);
        walk.and_then(|()| self.v6.for_each(|_, _| v6 += 1)).map_err(failed("the flows"))?;
        Ok([v4, v6])
    }

    pub fn walk4(&self, visit: impl FnMut(FlowKey4, Flow4)) -> Result<(), KernelError> {
        self.v4.for_each(visit).map_err(failed("the flows"))
    }

    pub fn walk6(&self, visit: impl FnMut(FlowKey6, Flow6)) -> Result<(), KernelError> {
        self.v6.for_each(visit).map_err(failed("the flows"))
    }

    pub fn walk_spliced(&self, visit: impl FnMut(Tuple, Bound)) -> Result<(), KernelError> {
        self.splices.for_each(visit).map_err(failed("the translated connections"))
    }
}

impl Live {
    /// Entries that each flow table can hold.
    pub fn flow_capacity(&self) -> u32 {
        self.maps.flows4.shape().entries
    }

    /// Those apart, too.
    pub fn flows4(&self, mut visit: impl FnMut(FlowKey4, Flow4)) -> Result<(), KernelError> {
        let m = &self.maps;
        m.flows4.for_each(&mut visit).and_then(|()| m.opening4.for_each(visit)).map_err(failed("the flows"))
    }

    pub fn flows6(&self, mut visit: impl FnMut(FlowKey6, Flow6)) -> Result<(), KernelError> {
        let m = &self.maps;
        m.flows6.for_each(&mut visit).and_then(|()| m.opening6.for_each(visit)).map_err(failed("the flows"))
    }

    /// The flow tables, to be walked by whoever has nothing else of this.
    pub fn flow_tables(&self) -> Result<FlowTables, KernelError> {
        let m = &self.maps;
        let tables = m
            .flows4
            .try_clone()
            .and_then(|v4| Ok(FlowTables { v4, v6: m.flows6.try_clone()?, splices: m.splices.try_clone()? }));
        tables.map_err(failed("the flows"))
    }

    /// Removes entries that are not apart; absent ones are no fault.
    pub fn forget_settled(&self, v4: &[FlowKey4], v6: &[FlowKey6]) -> Result<(), KernelError> {
        self.forget_before(v4, v6)?;
        let m = &self.maps;
        m.flows4.delete_all(v4).and_then(|()| m.flows6.delete_all(v6)).map_err(failed("the flows"))
    }

    /// Removes entries; absent ones are no fault.
    pub fn forget_flows(&self, v4: &[FlowKey4], v6: &[FlowKey6]) -> Result<(), KernelError> {
        // From the old ones first, where they move: a program could fetch them again in between.
        self.forget_before(v4, v6)?;
        let m = &self.maps;
        (m.flows4.delete_all(v4).and_then(|()| m.flows6.delete_all(v6)))
            .and_then(|()| m.opening4.delete_all(v4))
            .and_then(|()| m.opening6.delete_all(v6))
            .map_err(failed("the flows"))
    }

    /// Removes what is known of translated connections: both their ends hear so when they speak next.
    pub fn forget_splices(&self, splices: &[Tuple]) -> Result<(), KernelError> {
        let m = &self.maps;
        let all = m.splices.delete_all(splices).and_then(|()| m.frames.delete_all(splices));
        all.map_err(failed("the translated connections"))
    }

    /// Connections whose client has said nothing, or not enough.
    pub fn waiting(&self, visit: impl FnMut(Tuple, Bound)) -> Result<(), KernelError> {
        self.maps.waiting.for_each(visit).map_err(failed("the connections that wait"))
    }

    /// Connections that have, or had, an instance chosen by what their client said.
    pub fn spliced(&self, visit: impl FnMut(Tuple, Bound)) -> Result<(), KernelError> {
        self.maps.splices.for_each(visit).map_err(failed("the translated connections"))
    }

    pub fn splice(&self, t: &Tuple) -> Result<Option<Bound>, KernelError> {
        self.maps.splices.lookup(t).map_err(failed("a translated connection"))
    }

    /// Where the programs would find it: also apart.
    pub fn flow4(&self, key: &FlowKey4) -> Result<Option<Flow4>, KernelError> {
        let found = self.settled4(key)?;
        if found.is_some() { Ok(found) } else { self.maps.opening4.lookup(key).map_err(failed("a flow")) }
    }

    pub fn flow6(&self, key: &FlowKey6) -> Result<Option<Flow6>, KernelError> {
        let found = self.settled6(key)?;
        if found.is_some() { Ok(found) } else { self.maps.opening6.lookup(key).map_err(failed("a flow")) }
    }

    /// In the flow table itself.
    pub fn settled4(&self, key: &FlowKey4) -> Result<Option<Flow4>, KernelError> {
        self.maps.flows4.lookup(key).map_err(failed("a flow"))
    }

    pub fn settled6(&self, key: &FlowKey6) -> Result<Option<Flow6>, KernelError> {
        self.maps.flows6.lookup(key).map_err(failed("a flow"))
    }
}
