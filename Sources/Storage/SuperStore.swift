internal import Format
internal import HostIO
internal import Primitives

/// The file `super` and its two slots.
final class SuperStore: Sendable {
    static let fileName = "super"

    private struct State {
        var current: SuperSlot
        /// The slot that the next commit writes first.
        var nextSlot: Int
        /// A thread is writing the slots.
        var isCommitting = false
    }
    private let file: any File
    private let state: Guarded<State>

    /// What was found when it was opened, for reports.
    let remarks: [String]

    private init(file: any File, current: SuperSlot, nextSlot: Int, remarks: [String]) {
        self.file = file
        self.remarks = remarks
        state = Guarded(State(current: current, nextSlot: nextSlot))
    }

    var current: SuperSlot { state.withLock { $0.current } }

    /// Writes both slots of a new file.
    static func create(in directory: any Directory, _ slot: SuperSlot) throws(IOError) -> SuperStore {
        let file = try directory.open(fileName, .create)
        let buffer = ByteBuffer(count: 2 * SuperSlot.byteCount)
        slot.encode(into: buffer.part(0, SuperSlot.byteCount))
        slot.encode(into: buffer.part(SuperSlot.byteCount, SuperSlot.byteCount))
        try file.write(buffer.readable, at: 0)
        try file.sync()
        return SuperStore(file: file, current: slot, nextSlot: 0, remarks: [])
    }

    /// The two slots as they are on the device, each read or the reason why not.
    static func slots(of file: any File) throws(IOError) -> [Result<SuperSlot, FormatError>] {
        let buffer = ByteBuffer(count: 2 * SuperSlot.byteCount)
        try file.uncached().readPadded(into: buffer.bytes, at: 0)
        return (0..<2).map { index in
            let page = UnsafeRawBufferPointer(buffer.part(index * SuperSlot.byteCount, SuperSlot.byteCount))
            do throws(FormatError) {
                return .success(try SuperSlot(decoding: page))
            } catch {
                return .failure(error)
            }
        }
    }

    /// Opens the file and takes the newest slot that verifies.
    /// - Throws: `damagedMetadata` if neither does, `unsupportedFormat` for a newer version or another program's file.
    static func open(in directory: any Directory, access: FileAccess) throws(StoreError) -> SuperStore {
        let file: any File
        let slots: [Result<SuperSlot, FormatError>]
        do throws(IOError) {
            file = try directory.open(fileName, access)
            slots = try Self.slots(of: file)
        } catch {
            if error.isNotFound { throw .notFound("\(directory.path) (no file 'super': not a replica directory)") }
            throw .io(error)
        }
        var best: (slot: SuperSlot, index: Int)?
        var remarks: [String] = []
        for (index, result) in slots.enumerated() {
            switch result {
            case .success(let slot):
                if let found = best, found.slot.sequence >= slot.sequence { continue }
                best = (slot, index)
            case .failure(let error):
                if error.cause == .newer { throw .unsupportedFormat("\(file.path): \(error.what)") }
                remarks.append("super slot \(index): \(error.what); the other slot was used")
            }
        }
        guard let best else {
            let causes = slots.compactMap { result -> FormatError? in
                if case .failure(let error) = result { return error }
                return nil
            }
            if causes.allSatisfy({ $0.cause == .notThis }) {
                let buffer = ByteBuffer(count: 2 * SuperSlot.byteCount)
                try? file.readPadded(into: buffer.bytes, at: 0)
                if !buffer.readable.isZero {
                    throw .unsupportedFormat("\(file.path): not a super block of this program")
                }
            }
            throw .damagedMetadata(path: file.path, what: "neither slot of the super block verifies")
        }
        return SuperStore(file: file, current: best.slot, nextSlot: 1 - best.index, remarks: remarks)
    }

    /// Commits a change of the super block.
    ///
    /// 1. Write the older slot with the next sequence. A crash leaves the other slot: the state before.
    /// 2. fdatasync. From here on the new state is found.
    /// 3. Write the other slot with the same bytes. A crash leaves the first: the new state.
    /// 4. fdatasync. The new state stands twice; only now may the caller reuse what the old one named.
    func commit(_ change: (inout SuperSlot) -> Void) throws(IOError) {
        // A failure is recorded by whichever thread meets it, perhaps beside a commit in the lane: one at a time.
        var (slot, index) = state.wait { state -> (SuperSlot, Int)? in
            if state.isCommitting { return nil }
            state.isCommitting = true
            return (state.current, state.nextSlot)
        }
        defer {
            state.withLock { $0.isCommitting = false }
            state.wakeAll()
        }
        change(&slot)
        slot.sequence += 1
        do throws(FormatError) { try slot.checkConsistency() } catch { invariantFailed("a bad super slot: \(error)") }
        let buffer = ByteBuffer(count: SuperSlot.byteCount)
        slot.encode(into: buffer.bytes)
        for target in [index, 1 - index] {
            try file.write(buffer.readable, at: UInt64(target * SuperSlot.byteCount))
            try file.syncData()
        }
        state.withLock {
            $0.current = slot
            $0.nextSlot = index
        }
    }

    /// The bytes on the device of each slot, for `verify`.
    func slotsOnDevice() throws(IOError) -> [Result<SuperSlot, FormatError>] { try Self.slots(of: file) }
}
