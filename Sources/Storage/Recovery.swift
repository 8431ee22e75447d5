internal import Format
internal import HostIO
internal import Primitives

/// Rebuilds the state of a replica from its super block, chain document and journal.
struct Recovery {
    var tiers: [Tier]
    var boundary: Boundary
    var flushed: UInt64
    /// Blocks of the ring in use, from the tail to the boundary.
    var tail: UInt64
    /// Records behind the boundary's revision are in the chain of batches and must be made void.
    var needsCut = false
    var report: RecoveryReport
    /// Files that the journal names.
    var journalLayers: [Identifier] = []

    /// Takes over what the journal holds.
    ///
    /// 1. Scan the ring from the device, with the payload's sums.
    /// 2. For every record behind the last flush: blocks that do not verify, in the ring or in place, make the
    ///    revisions from that record to the next one of the same block impossible ends. The longest possible prefix
    ///    is kept (rule 5). For records of a flush they are damage, and stay.
    /// 3. Fill the overlays with the records of that prefix.
    static func run(
        super slot: SuperSlot, head: Layer, journal: any File, chain: ChainStore, access: FileAccess,
        hasher: BlockHasher
    ) throws(StoreError) -> Recovery {
        var scan: JournalScan
        let device: any File
        do throws(IOError) {
            device = try journal.uncached()
            scan = try JournalScan.run(super: slot, file: device)
            try scan.verifyPayload(hasher)
        } catch {
            throw .io(error)
        }
        if let gap = scan.gap {
            throw .damagedMetadata(
                path: journal.path,
                what: "the journal's batch of revision \(gap) is unreadable, and a later flush proves that it was "
                    + "written; operations from there on are lost here")
        }
        var layers: [LayerFiles] = [head.files]
        var opened: [Identifier] = []
        // Heads that snapshots in the journal made, in order; a snapshot behind the kept prefix is dropped below.
        for operation in scan.operations where operation.kind == .snapshot {
            let record: SnapshotRecord
            do throws(StoreError) {
                record = try snapshotRecord(operation, journal: device)
            } catch {
                if operation.revision > scan.flushed {
                    scan.badPayload.append(JournalScan.BadPayload(revision: operation.revision, block: snapshotBlock))
                    break
                }
                throw error
            }
            guard let identifier = Identifier(record.newHead) else { invariantFailed("a head named \(record.newHead)") }
            do throws(IOError) {
                layers.append(try chain.openLayer(identifier, access: access))
                opened.append(identifier)
            } catch {
                throw .damagedMetadata(path: chain.layers.path, what: "the journal names a layer: \(error)")
            }
        }
        let bad = try badRecords(scan, layers: layers, hasher: hasher)
        if let lost = bad.first(where: { $0.key.block == snapshotBlock && $0.revision <= scan.flushed }) {
            throw .damagedMetadata(
                path: journal.path, what: "the record of the snapshot of revision \(lost.revision) does not verify")
        }
        let last = longestPrefix(
            end: scan.end.revision,
            bad: bad.filter { $0.revision > scan.flushed }.map { Interval(first: $0.revision, next: $0.next) })
        // A flushed record is damage, unless what replaces it is kept.
        let suspects = bad.filter { $0.revision <= scan.flushed && $0.next > last }
            .map { BlockRange(start: $0.key.block, count: 1) }
            .sorted { $0.start < $1.start }

        var recovery = Recovery(
            tiers: [Tier(layer: head, present: slot.headPresent)], boundary: scan.end, flushed: min(scan.flushed, last),
            tail: slot.tailOffset / blockSize64,
            report: RecoveryReport(
                outcome: .recovered, revision: last, flushedRevision: min(scan.flushed, last),
                generation: slot.generation, historyHash: .zero))
        var history = slot.historyHash
        var nextLayer = 1
        for operation in scan.operations {
            if operation.revision > last {
                recovery.report.droppedRecords += 1
                recovery.report.droppedBytes += operation.count * blockSize64
                continue
            }
            history = scan.sums.withUnsafeBufferPointer { sums in
                let part = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(sums)[
                        (operation.firstSum * 8)..<((operation.firstSum + operation.sumCount) * 8)])
                return History.hash(
                    after: history, operation: operation.kind, block: operation.block, count: operation.count,
                    sums: part)
            }
            recovery.report.replayedRecords += 1
            recovery.report.replayedBytes += operation.count * blockSize64
            let tier = recovery.tiers[recovery.tiers.count - 1]
            switch operation.kind {
            case .write:
                for piece in operation.pieces {
                    for index in 0..<piece.count {
                        let position = piece.start + index
                        tier.active.insert(
                            operation.block + UInt64(position), piece.ring.map { .ring($0 + UInt64(index)) } ?? .direct,
                            sum: scan.sums[operation.firstSum + position])
                    }
                }
            case .zero, .discard:
                tier.active.empty(BlockRange(start: operation.block, count: operation.count))
            case .snapshot:
                let record = try snapshotRecord(operation, journal: device)
                tier.seal = Tier.Seal(
                    record: record, revision: operation.revision, historyHash: history, size: slot.volumeSize)
                recovery.tiers.append(Tier(layer: Layer(files: layers[nextLayer], root: 0), present: 0))
                recovery.journalLayers.append(opened[nextLayer - 1])
                nextLayer += 1
            }
        }
        recovery.boundary.revision = last
        recovery.boundary.historyHash = history
        recovery.needsCut = last < scan.end.revision
        recovery.report.historyHash = history
        recovery.report.suspects = suspects
        recovery.report.remarks = scan.remarks
        recovery.report.droppedBytes += scan.tornBytes
        if !suspects.isEmpty {
            recovery.report.outcome = .damaged
        } else if recovery.needsCut || scan.tornBytes > 0 {
            recovery.report.outcome = .rolledBack
        }
        return recovery
    }

    private static func snapshotRecord(
        _ operation: JournalScan.Operation, journal: any File
    ) throws(StoreError) -> SnapshotRecord {
        guard let ring = operation.pieces.first?.ring else {
            throw .damagedMetadata(path: journal.path, what: "a snapshot record without its payload")
        }
        let block = ByteBuffer(count: blockSize)
        do throws(IOError) {
            try journal.readPadded(into: block.bytes, at: ring * blockSize64)
        } catch {
            throw .io(error)
        }
        do throws(FormatError) {
            return try SnapshotRecord(decoding: block.readable)
        } catch {
            throw .damagedMetadata(path: journal.path, what: error.what)
        }
    }

    /// Revisions that cannot be the end: from `first`, below `next`.
    struct Interval {
        var first: UInt64
        var next: UInt64
    }

    /// A block of one head.
    private struct Key: Hashable {
        var tier: Int
        var block: UInt64
    }

    /// A record whose bytes do not verify, in the ring or in place.
    private struct Bad {
        var key: Key
        var revision: UInt64
        /// The record that replaces the block next, by a write or by emptying it: from there on, the bytes do not
        /// matter. Without one it is `UInt64.max`.
        var next = UInt64.max
    }

    /// Every record that does not verify, with what replaces it.
    ///
    /// Direct blocks are looked at only behind the last flush: those before it may have been punched since, because
    /// a later record replaces them, and if they are damaged, reads tell.
    private static func badRecords(
        _ scan: JournalScan, layers: [LayerFiles], hasher: BlockHasher
    ) throws(StoreError) -> [Bad] {
        var found: [Bad] = []
        let badRing = Dictionary(grouping: scan.badPayload, by: { $0.revision })
        let buffer = ByteBuffer(count: blockSize)
        var tier = 0
        var device: (any File)?
        for operation in scan.operations {
            if operation.kind == .snapshot {
                if badRing[operation.revision] != nil {
                    found.append(Bad(key: Key(tier: tier, block: snapshotBlock), revision: operation.revision))
                }
                tier += 1
                device = nil
                if tier >= layers.count { break }
                continue
            }
            for item in badRing[operation.revision] ?? [] {
                found.append(Bad(key: Key(tier: tier, block: item.block), revision: operation.revision))
            }
            guard operation.revision > scan.flushed, operation.kind == .write else { continue }
            for piece in operation.pieces where piece.ring == nil {
                do throws(IOError) {
                    let image: any File
                    if let device { image = device } else { image = try layers[tier].image.uncached() }
                    device = image
                    for index in 0..<piece.count {
                        let block = operation.block + UInt64(piece.start + index)
                        try image.readPadded(into: buffer.bytes, at: block * blockSize64)
                        if hasher.sum(buffer.base, block: block) != scan.sums[operation.firstSum + piece.start + index]
                        {
                            found.append(Bad(key: Key(tier: tier, block: block), revision: operation.revision))
                        }
                    }
                } catch {
                    throw .io(error)
                }
            }
        }
        if !found.isEmpty { findReplacements(&found, scan) }
        return found
    }

    private static func findReplacements(_ bad: inout [Bad], _ scan: JournalScan) {
        var places: [Key: [Int]] = [:]
        for index in bad.indices { places[bad[index].key, default: []].append(index) }
        var tier = 0
        for operation in scan.operations {
            func replace(_ index: Int) {
                if bad[index].revision < operation.revision {
                    bad[index].next = min(bad[index].next, operation.revision)
                }
            }
            switch operation.kind {
            case .snapshot: tier += 1
            case .write:
                for offset in 0..<operation.count {
                    for index in places[Key(tier: tier, block: operation.block + offset)] ?? [] { replace(index) }
                }
            case .zero, .discard:
                for index in bad.indices
                where bad[index].key.tier == tier && bad[index].key.block >= operation.block
                    && bad[index].key.block - operation.block < operation.count
                {
                    replace(index)
                }
            }
        }
    }

    /// The highest revision up to `end` that no interval holds.
    static func longestPrefix(end: UInt64, bad: [Interval]) -> UInt64 {
        var last = end
        var isStable = false
        while !isStable {
            isStable = true
            for interval in bad where last >= interval.first && last < interval.next {
                last = interval.first - 1
                isStable = false
            }
        }
        return last
    }
}

/// A block number that no volume has: stands for the payload of a snapshot record.
private let snapshotBlock = UInt64.max
