internal import Glibc
internal import Primitives

/// Node numbers: what the kernel calls the files of the mount. A number is never used for two things.
enum Node {
    static let root: UInt64 = 1
    static let volume: UInt64 = 2
    static let snapshots: UInt64 = 3
    static let state: UInt64 = 4
    static let status: UInt64 = 5
    static let stats: UInt64 = 6
    /// Snapshots have this number or a higher one.
    static let firstSnapshot: UInt64 = 16

    static func document(_ node: UInt64) -> MountedDocument? {
        switch node {
        case status: .status
        case stats: .stats
        default: nil
        }
    }

    static func isDirectory(_ node: UInt64) -> Bool { node == root || node == snapshots || node == state }
}

/// The nodes of snapshots: those that are listed, and those that the kernel still knows though they are gone.
///
/// Invariants
/// 1. A node is kept for as long as the snapshot is listed or the kernel counts look-ups of it, which `forget` ends.
/// 2. No call into the volume is made with the lock held.
final class SnapshotNodes: Sendable {
    struct Entry {
        var snapshot: MountedSnapshot
        let node: UInt64
        /// Look-ups that the kernel has not given back.
        var lookupCount: UInt64 = 0
        var isListed = true
        /// `allocatedBytes` and the number of changes it was asked at.
        var allocated: (bytes: UInt64, change: UInt64)?
    }

    private struct State {
        /// The `snapshotChanges` that `listed` was made at; nil before the first.
        var change: UInt64?
        var listed: [UInt64] = []
        var byName: [String: UInt64] = [:]
        var byIdentity: [Identifier: UInt64] = [:]
        var entries: [UInt64: Entry] = [:]
        var nextNode = Node.firstSnapshot
    }

    private let volume: any MountedVolume
    private let state = Guarded(State())

    init(volume: any MountedVolume) { self.volume = volume }

    /// All snapshots, in the volume's order.
    func all() throws(MountError) -> [Entry] {
        try refresh()
        return state.withLock { state in state.listed.compactMap { state.entries[$0] } }
    }

    /// The snapshot named `name`, with one look-up more counted for it.
    func lookUp(_ name: String) throws(MountError) -> Entry? {
        try refresh()
        return state.withLock { state in
            guard let node = state.byName[name] else { return nil }
            state.entries[node]?.lookupCount += 1
            return state.entries[node]
        }
    }

    /// The content of a node's snapshot.
    ///
    /// The volume opens by name, and the name may have gone to another snapshot since the node was looked up (an open
    /// through /proc/self/fd looks nothing up at all). So the list must be the same before and after.
    /// - Throws: ENOENT when the snapshot is gone.
    func open(_ node: UInt64) throws(MountError) -> any MountedImage {
        for _ in 0..<Self.openAttemptLimit {
            try refresh()
            guard let entry = entry(of: node), entry.isListed else { throw MountError(errno: ENOENT) }
            let change = state.withLock { $0.change }
            let image: any MountedImage
            do throws(MountError) {
                image = try volume.openSnapshot(named: entry.snapshot.name)
            } catch {
                if volume.snapshotChanges != change { continue }
                throw error
            }
            if volume.snapshotChanges == change { return image }
        }
        throw MountError(errno: EAGAIN)
    }

    /// Snapshots come and go seconds apart, not within one open, let alone this many times.
    private static let openAttemptLimit = 16

    /// The snapshot of a node that the kernel knows.
    func entry(of node: UInt64) -> Entry? { state.withLock { $0.entries[node] } }

    func forget(_ node: UInt64, count: UInt64) {
        state.withLock { state in
            guard var entry = state.entries[node] else { return }
            entry.lookupCount -= min(entry.lookupCount, count)
            state.entries[node] = entry
            Self.dropIfUnused(node, &state)
        }
    }

    /// Bytes that the snapshot occupies. They are asked for again only when the list of snapshots has changed, because
    /// a snapshot's own content never does.
    func allocatedBytes(of entry: Entry) throws(MountError) -> UInt64 {
        let change = volume.snapshotChanges
        if let known = entry.allocated, known.change == change || !entry.isListed { return known.bytes }
        let bytes = try open(entry.node).allocatedBytes()
        state.withLock { $0.entries[entry.node]?.allocated = (bytes, change) }
        return bytes
    }

    /// Takes over the volume's list when it has changed.
    private func refresh() throws(MountError) {
        // The number is read before the list: a change in between makes the next call read the list again.
        let change = volume.snapshotChanges
        if state.withLock({ $0.change == change }) { return }
        let snapshots = try volume.snapshots()
        state.withLock { state in
            let before = state.listed
            state.listed = []
            state.byName = [:]
            for node in before { state.entries[node]?.isListed = false }
            for snapshot in snapshots {
                let node: UInt64
                if let known = state.byIdentity[snapshot.identity] {
                    node = known
                    state.entries[node]?.snapshot = snapshot
                    state.entries[node]?.isListed = true
                } else {
                    node = state.nextNode
                    state.nextNode += 1
                    state.byIdentity[snapshot.identity] = node
                    state.entries[node] = Entry(snapshot: snapshot, node: node)
                }
                state.listed.append(node)
                state.byName[snapshot.name] = node
            }
            for node in before { Self.dropIfUnused(node, &state) }
            state.change = change
        }
    }

    private static func dropIfUnused(_ node: UInt64, _ state: inout State) {
        guard let entry = state.entries[node], !entry.isListed, entry.lookupCount == 0 else { return }
        state.entries[node] = nil
        state.byIdentity[entry.snapshot.identity] = nil
    }
}
