//! Flow tables of another size (`--flows`): the end of a start that found others pinned. Until then the programs that are
//! attached run over both; an agent that dies anywhere in here leaves them so, and the next one goes on.

use super::{
    attach::directions,
    core::{AttachState, Inner},
};
use crate::{
    fail::{self, Point},
    kernel::KernelError,
};

impl Inner {
    /// Copies, attaches programs over the new tables alone, and gives these the old ones' pins. What fails leaves the programs
    /// over both in place: nothing is lost by that but memory.
    pub(super) fn finish_move(&mut self, flows: u32) {
        if let Err(e) = self.try_move(flows) {
            tracing::error!(error = %e, "the flow tables could not be resized; the next start of the agent tries again");
        }
    }

    fn try_move(&mut self, flows: u32) -> Result<(), KernelError> {
        if !self.live.moves() {
            return self.live.forget_others();
        }
        while self.live.moves() {
            fail::point(Point::MoveBoth).map_err(point)?;
            if !self.alone()? {
                return Ok(());
            }
            let moved = self.live.copy_flows()?;
            self.live.leave_old_tables()?;
            self.relink();
            if !self.alone()? {
                return Ok(());
            }
            fail::point(Point::MoveSwitched).map_err(point)?;
            self.live.end_move()?;
            let entries = self.live.flow_capacity();
            tracing::info!(
                entries,
                copied = moved.copied,
                fetched = moved.fetched,
                ended = moved.ended,
                "the flow tables have another size"
            );
            if moved.left_out > 0 {
                tracing::warn!(
                    entries,
                    forgotten = moved.left_out,
                    "more flows than the smaller tables hold: the least recently used are forgotten, and decided again \
                     with their next packet"
                );
            }
            if self.live.move_on(flows)? {
                self.relink();
            }
        }
        Ok(())
    }

    /// Whether every packet meets the programs that are loaded now, and says where not.
    fn alone(&self) -> Result<bool, KernelError> {
        let others = self.live.strangers()?;
        let failed =
            self.attachments.iter().filter(|a| a.state == AttachState::Failed).map(|a| a.iface.clone());
        let others: Vec<String> = others.into_iter().chain(failed).collect();
        if !others.is_empty() {
            tracing::error!(
                places = others.join(", "),
                "packets meet other programs there: the flow tables keep both sizes until the next start"
            );
        }
        Ok(others.is_empty())
    }

    /// Brings every attachment to the programs that are loaded now.
    pub(super) fn relink(&mut self) {
        for i in 0..self.attachments.len() {
            let a = &self.attachments[i];
            let (iface, xdp) = (a.iface.clone(), a.front.on);
            let (AttachState::Attached, Some(ifindex)) = (a.state, a.ifindex) else { continue };
            let done = directions(a.role, self.splice)
                .iter()
                .try_for_each(|d| {
                    fail::point(Point::MoveLink).map_err(point)?;
                    self.live.attach(&iface, ifindex, *d).map(drop)
                })
                .and_then(|()| if xdp { self.live.attach_xdp(&iface, ifindex).map(drop) } else { Ok(()) });
            if let Err(e) = done {
                self.set_attachment(i, Some(ifindex), AttachState::Failed, Some(e.to_string()));
            }
        }
    }
}

fn point(source: std::io::Error) -> KernelError {
    KernelError::Write { what: "the flow tables".into(), source }
}
