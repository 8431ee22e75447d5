internal import Primitives

/// Locks on runs of blocks: writes that overlap are carried out one after the other.
///
/// Held from the reading of an unaligned edge to the acknowledgement, over I/O: it orders requests and guards no memory.
final class BlockLocks: Sendable {
    private let held = Guarded<[BlockRange]>([])

    /// Waits until no held run overlaps `range`, and holds it.
    func lock(_ range: BlockRange) {
        held.wait { held -> Void? in
            for other in held where other.start < range.end && range.start < other.end { return nil }
            held.append(range)
            return ()
        }
    }

    func unlock(_ range: BlockRange) {
        let others = held.withLock { held -> Bool in
            guard let index = held.firstIndex(of: range) else { invariantFailed("\(range) is not locked") }
            held.swapAt(index, held.count - 1)
            held.removeLast()
            return true
        }
        if others { held.wakeAll() }
    }
}
