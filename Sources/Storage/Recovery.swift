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
        let bad = try badIntervals(scan, layers: layers, hasher: hasher)
        let last = longestPrefix(end: scan.end.revision, bad: bad.intervals)
        var suspects = bad.suspects
        suspects.sort { $0.start < $1.start }

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
                tier.seal = Tier.Seal(record: record, revision: operation.revision, historyHash: history, size: slot.volumeSize)
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

    /// For each record that does not verify: an impossible interval if it was not flushed, a suspect if it was.
    private static func badIntervals(
        _ scan: JournalScan, layers: [LayerFiles], hasher: BlockHasher
    ) throws(StoreError) -> (intervals: [Interval], suspects: [BlockRange]) {
        struct Key: Hashable {
            var tier: Int
            var block: UInt64
        }
        // Later records of the same block, among those that no flush covers: writes, and ranges that were emptied.
        // Bytes that a later record replaces do not matter to a volume that holds that record.
        var revisions: [Key: [UInt64]] = [:]
        var emptied: [(tier: Int, range: BlockRange, revision: UInt64)] = []
        var tier = 0
        var bad: [(key: Key, revision: UInt64)] = []
        var suspects: [BlockRange] = []
        let badRing = Dictionary(grouping: scan.badPayload, by: { $0.revision })
        let buffer = ByteBuffer(count: blockSize)
        var devices: [Int: any File] = [:]
        for operation in scan.operations {
            for item in badRing[operation.revision] ?? [] {
                if operation.kind == .snapshot || operation.revision > scan.flushed {
                    bad.append((Key(tier: tier, block: operation.kind == .snapshot ? snapshotBlock : item.block), operation.revision))
                } else {
                    suspects.append(BlockRange(start: item.block, count: 1))
                }
            }
            if operation.kind == .snapshot {
                tier += 1
                if tier >= layers.count { break }
                continue
            }
            guard operation.revision > scan.flushed else { continue }
            if operation.kind == .write {
                for index in 0..<Int(operation.count) {
                    revisions[Key(tier: tier, block: operation.block + UInt64(index)), default: []].append(
                        operation.revision)
                }
            } else {
                emptied.append((tier, BlockRange(start: operation.block, count: operation.count), operation.revision))
            }
            for piece in operation.pieces where operation.kind == .write && piece.ring == nil {
                for index in 0..<piece.count {
                    let block = operation.block + UInt64(piece.start + index)
                    do throws(IOError) {
                        let device: any File
                        if let known = devices[tier] {
                            device = known
                        } else {
                            device = try layers[tier].image.uncached()
                            devices[tier] = device
                        }
                        try device.readPadded(into: buffer.bytes, at: block * blockSize64)
                    } catch {
                        throw .io(error)
                    }
                    let sum = scan.sums[operation.firstSum + piece.start + index]
                    if hasher.sum(buffer.base, block: block) != sum {
                        bad.append((Key(tier: tier, block: block), operation.revision))
                    }
                }
            }
        }
        let intervals = bad.map { item in
            let written = revisions[item.key]?.first { $0 > item.revision } ?? UInt64.max
            let cleared = emptied.first {
                $0.revision > item.revision && $0.tier == item.key.tier && $0.range.start <= item.key.block
                    && item.key.block < $0.range.end
            }
            return Interval(first: item.revision, next: min(written, cleared?.revision ?? UInt64.max))
        }
        return (intervals, suspects)
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
