internal import Primitives

/// The right to change the structure of a replica: checkpoint, merge, revert, resize, seal. One holder at a time.
///
/// It is no lock: nothing is computed under it, it is held over I/O, and readers and writers never ask for it.
final class Lane: Sendable {
    private let holder = Guarded<String?>(nil)

    /// The work in progress, for status.
    var current: String? { holder.withLock { $0 } }

    /// Waits until the lane is free.
    func enter(_ work: String) {
        holder.wait { holder -> Void? in
            if holder != nil { return nil }
            holder = work
            return ()
        }
    }

    /// Enters if the lane is free now.
    func tryEnter(_ work: String) -> Bool {
        holder.withLock { holder in
            if holder != nil { return false }
            holder = work
            return true
        }
    }

    func leave() {
        holder.withLock { $0 = nil }
        holder.wakeAll()
    }
}
