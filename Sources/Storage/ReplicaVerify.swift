internal import Format
internal import HostIO
internal import Primitives

extension Replica {
    /// Checks the replica: both slots of the super block, both copies of the chain document, the manifests, both slots
    /// of every map page, files that nothing names; and, unless `quick`, every block of every layer against its sum.
    ///
    /// It goes on while the volume is used. What has a second good copy is a remark; what has none is damage.
    /// - Throws: `cancelled`, `io` if a file cannot be read at all.
    public func verify(quick: Bool, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) -> VerifyReport {
        let startNs = host.monotonicNs()
        var report = VerifyReport()
        if !isReadOnly {
            do throws(StoreError) {
                try withLane("checkpoint") { () throws(StoreError) in
                    _ = try checkpoint()
                    try sealAll()
                }
            } catch {
                // On a full disk the journal stays as it is; its blocks are read where they are.
                guard case .noSpace = error else { throw error }
            }
        }
        try verifySuper(&report)
        try verifyChain(&report)
        let (document, sealed, tiers) = state.withLock { ($0.document, $0.sealed, $0.tiers) }
        var total: UInt64 = 0
        for entry in document.layers { total += entry.present * blockSize64 }
        total += state.withLock { _ in tiers.reduce(0) { $0 + $1.present } } * blockSize64
        var run = VerifyRun(total: total, pacer: Pacer(host: host, rate: rate), progress: progress, quick: quick)
        for entry in document.layers where entry.uuid != document.head {
            guard let identifier = Identifier(entry.uuid), let layer = sealed[identifier] else { continue }
            try verify(layer, snapshot: entry.removed ? nil : entry.snapshot?.name, tier: nil, &run, &report)
        }
        for tier in tiers {
            let layer = state.withLock { _ in tier.layer }
            try verify(layer, snapshot: tier.seal?.record.name, tier: tier, &run, &report)
        }
        if !quick { try verifyOverlays(tiers, &report) }
        try verifyOrphans(document, tiers, &report)
        report.elapsedNs = host.monotonicNs() - startNs
        return report
    }

    private struct VerifyRun {
        let total: UInt64
        let pacer: Pacer
        let progress: ProgressHandler?
        let quick: Bool
        var done: UInt64 = 0

        mutating func advance(_ bytes: UInt64) throws(StoreError) {
            done += bytes
            if let progress, progress(Progress(doneBytes: min(done, total), totalBytes: total)) { throw .cancelled }
            pacer.pace(bytes)
        }
    }

    private func verifySuper(_ report: inout VerifyReport) throws(StoreError) {
        let slots = try calling { () throws(IOError) in try superStore.slotsOnDevice() }
        var good = 0
        for result in slots { if case .success = result { good += 1 } }
        for (index, result) in slots.enumerated() {
            guard case .failure(let error) = result else { continue }
            report.findings.append(
                VerifyReport.Finding(
                    kind: "super", path: SuperStore.fileName, range: nil, snapshot: nil,
                    message: "slot \(index): \(error.what)" + (good > 0 ? "; the other slot is good" : ""),
                    isDamage: true))
        }
    }

    private func verifyChain(_ report: inout VerifyReport) throws(StoreError) {
        let slot = superStore.current
        for name in [ChainDocument.fileName(slot.chainNumber), ChainDocument.copyName(slot.chainNumber)] {
            do throws(StoreError) {
                _ = try ChainStore.verified(directory, name, hash: slot.chainHash)
            } catch {
                // A commit meanwhile writes the next number; then this one is rightly gone.
                if superStore.current.chainNumber != slot.chainNumber { continue }
                report.findings.append(
                    VerifyReport.Finding(
                        kind: "chain", path: name, range: nil, snapshot: nil, message: "\(error)", isDamage: true))
            }
        }
        let document = state.withLock { $0.document }
        for entry in document.layers where entry.uuid != document.head {
            guard let identifier = Identifier(entry.uuid) else { continue }
            let name = LayerFiles.manifestName(identifier)
            var problem: String?
            do throws(IOError) {
                let bytes = try chain.layers.open(name, .readOnly).readAll(limit: FormatLimit.manifestBytes)
                do throws(FormatError) {
                    let manifest = try LayerManifest(decoding: bytes)
                    if manifest.layer != entry { problem = "it differs from the chain document" }
                } catch {
                    problem = error.what
                }
            } catch {
                problem = error.reason
            }
            if let problem, state.withLock({ $0.document }) == document {
                report.findings.append(
                    VerifyReport.Finding(
                        kind: "manifest", path: "\(ReplicaFiles.layers)/\(name)", range: nil,
                        snapshot: entry.snapshot?.name, message: problem, isDamage: true))
            }
        }
    }

    /// One layer: its map from the root down, and its blocks.
    private func verify(
        _ layer: Layer, snapshot: String?, tier: Tier?, _ run: inout VerifyRun, _ report: inout VerifyReport
    ) throws(StoreError) {
        report.checkedLayers += 1
        if layer.root == 0 { return }
        let sumsPath = "\(ReplicaFiles.layers)/\(LayerFiles.sumsName(layer.identifier))"
        let buffer = ByteBuffer(count: IOContext.blockLimit * blockSize)
        try verifyPage(layer, level: MapGeometry.rootLevel, index: 0, expected: layer.root, sumsPath, snapshot, &report)
        {
            leaf, page, report throws(StoreError) in
            if run.quick {
                report.checkedBlocks += page.presentCount
                return
            }
            try self.verifyBlocks(layer, leaf, page, buffer, snapshot, tier, &run, &report)
        }
    }

    /// Both slots of a page, then the pages below it.
    private func verifyPage(
        _ layer: Layer, level: Int, index: UInt64, expected: UInt64, _ path: String, _ snapshot: String?,
        _ report: inout VerifyReport, _ atLeaf: (UInt64, MapPage, inout VerifyReport) throws(StoreError) -> Void
    ) throws(StoreError) {
        let loaded: MapPage?
        do throws(MapDamage) {
            loaded = try layer.load(level: level, index: index, expected: expected)
        } catch {
            if isCurrent(layer) {
                let range = BlockRange(start: 0, count: size / blockSize64).intersection(error.blocks)
                report.findings.append(
                    VerifyReport.Finding(
                        kind: "map", path: path, range: range, snapshot: snapshot,
                        message: "map page \(level)/\(index) does not verify in either slot", isDamage: true))
            }
            return
        }
        guard let page = loaded else { return }
        if let fault = slotFault(layer, level: level, index: index, expected: expected), isCurrent(layer) {
            report.findings.append(
                VerifyReport.Finding(
                    kind: "map", path: path, range: nil, snapshot: snapshot,
                    message: "map page \(level)/\(index): \(fault); the other slot is good", isDamage: true))
        }
        if level == 0 { return try atLeaf(index, page, &report) }
        for entry in 0..<MapGeometry.entries where page.entries[entry] != 0 {
            try verifyPage(
                layer, level: level - 1, index: index * MapGeometry.entries64 + UInt64(entry),
                expected: page.entries[entry], path, snapshot, &report, atLeaf)
        }
    }

    /// Whether a layer's map is still the one in force: a commit meanwhile makes what was read of it worthless.
    private func isCurrent(_ layer: Layer) -> Bool {
        state.withLock { state in
            if let sealed = state.sealed[layer.identifier] { return sealed.root == layer.root }
            return state.tiers.contains { $0.layer.identifier == layer.identifier && $0.layer.root == layer.root }
        }
    }

    /// What is wrong with a slot of a page whose other slot is good; nil for two good slots, and for a slot that a
    /// crash before the second copy left behind (it verifies by itself, with other content, or was never written).
    private func slotFault(_ layer: Layer, level: Int, index: UInt64, expected: UInt64) -> String? {
        let buffer = ByteBuffer(count: MapGeometry.pageBytes)
        for slot in 0..<2 {
            let offset = MapGeometry.offset(level: level, index: index, slot: slot)
            do throws(IOError) {
                try layer.files.sums.readPadded(into: buffer.bytes, at: offset)
            } catch {
                return "slot \(slot) cannot be read: \(error.reason)"
            }
            if buffer.readable.isZero { continue }
            do throws(FormatError) {
                _ = try MapNode(decoding: buffer.bytes, level: level, index: index, layer: layer.identifier)
            } catch {
                return "slot \(slot): \(error.what)"
            }
        }
        return nil
    }

    private func verifyBlocks(
        _ layer: Layer, _ leaf: UInt64, _ page: MapPage, _ buffer: ByteBuffer, _ snapshot: String?, _ tier: Tier?,
        _ run: inout VerifyRun, _ report: inout VerifyReport
    ) throws(StoreError) {
        let first = MapGeometry.firstBlock(ofLeaf: leaf)
        let path = "\(ReplicaFiles.layers)/\(LayerFiles.imageName(layer.identifier))"
        var slot = 0
        while slot < MapGeometry.entries {
            if page.entries[slot] == 0 {
                slot += 1
                continue
            }
            var length = 1
            while slot + length < MapGeometry.entries, page.entries[slot + length] != 0, length < IOContext.blockLimit {
                length += 1
            }
            readForVerify(layer, block: first + UInt64(slot), buffer.part(0, length * blockSize))
            for index in 0..<length {
                let block = first + UInt64(slot + index)
                let sum = hasher.sum(buffer.base + index * blockSize, block: block)
                if sum == page.entries[slot + index] { continue }
                if !isDamaged(layer, tier, block: block, sum: page.entries[slot + index]) { continue }
                if let last = report.findings.last, last.kind == "block", last.path == path, let range = last.range,
                    range.end == block
                {
                    report.findings[report.findings.count - 1].range?.count += 1
                } else {
                    report.findings.append(
                        VerifyReport.Finding(
                            kind: "block", path: path, range: BlockRange(start: block, count: 1), snapshot: snapshot,
                            message: page.entries[slot + index] == lostSum
                                ? "the content was lost before" : "the content does not match its checksum",
                            isDamage: true))
                }
            }
            report.checkedBlocks += UInt64(length)
            report.checkedBytes += UInt64(length * blockSize)
            try run.advance(UInt64(length * blockSize))
            slot += length
        }
    }

    /// Looks again at a block that did not verify: it may have been rewritten or moved meanwhile.
    private func isDamaged(_ layer: Layer, _ tier: Tier?, block: UInt64, sum: UInt64) -> Bool {
        let leaf = MapGeometry.leaf(of: block)
        let slot = Int(block - MapGeometry.firstBlock(ofLeaf: leaf))
        let buffer = ByteBuffer(count: blockSize)
        for _ in 0..<3 {
            let (current, hasRecord) = state.withLock { state -> (Layer?, Bool) in
                if let sealed = state.sealed[layer.identifier] { return (sealed, false) }
                guard let found = state.tiers.first(where: { $0.layer.identifier == layer.identifier }) else {
                    return (nil, false)
                }
                return (found.layer, found.record(of: block) != nil)
            }
            // The journal has a newer version: what stands in the image is on its way out.
            guard let current, !hasRecord else { return false }
            let expected = current.leafOrLost(leaf).sum(at: slot)
            if expected == 0 { return false }
            readForVerify(current, block: block, buffer.bytes)
            if hasher.sum(buffer.base, block: block) == expected { return false }
            if isCurrent(current) && expected == sum { return true }
        }
        return true
    }

    private func readForVerify(_ layer: Layer, block: UInt64, _ bytes: UnsafeMutableRawBufferPointer) {
        do throws(IOError) {
            try layer.files.image.readPadded(into: bytes, at: block * blockSize64)
        } catch {
            // A block that cannot be read does not verify: its bytes are made wrong on purpose.
            for index in 0..<(bytes.count / blockSize) {
                let one = UnsafeMutableRawBufferPointer(
                    rebasing: bytes[(index * blockSize)..<((index + 1) * blockSize)])
                do throws(IOError) {
                    try layer.files.image.readPadded(into: one, at: (block + UInt64(index)) * blockSize64)
                } catch {
                    one.initializeMemory(as: UInt8.self, repeating: 0xA5)
                }
            }
        }
    }

    /// Blocks whose newest version is in the journal.
    private func verifyOverlays(_ tiers: [Tier], _ report: inout VerifyReport) throws(StoreError) {
        let blocks = state.withLock { _ in
            tiers.flatMap { tier in
                (tier.active.sortedEntries() + (tier.frozen?.sortedEntries() ?? [])).map { $0.block }
            }
        }
        let context = contexts.take()
        defer { contexts.give(context) }
        let buffer = ByteBuffer(count: blockSize)
        for block in blocks where block < size / blockSize64 {
            do throws(StoreError) {
                try read(.head, block: block, count: 1, into: buffer.base, context)
            } catch {
                guard case .damagedBlocks(let range, let path) = error else { throw error }
                report.findings.append(
                    VerifyReport.Finding(
                        kind: "journal", path: path, range: range, snapshot: nil,
                        message: "the newest version of the block does not match its checksum", isDamage: true))
            }
            report.checkedBlocks += 1
        }
    }

    private func verifyOrphans(
        _ document: ChainDocument, _ tiers: [Tier], _ report: inout VerifyReport
    ) throws(StoreError) {
        var known = Set(document.layers.compactMap { Identifier($0.uuid) })
        for tier in tiers { known.insert(tier.layer.identifier) }
        let orphans = try calling { () throws(IOError) in
            try chain.orphans(known: known, chainNumber: superStore.current.chainNumber)
        }
        guard state.withLock({ $0.document.number == document.number && $0.reservedNames.isEmpty }) else { return }
        for orphan in orphans {
            report.findings.append(
                VerifyReport.Finding(
                    kind: "orphan", path: orphan.name, range: nil, snapshot: nil,
                    message: "nothing names this file; the next mount removes it", isDamage: false))
        }
    }
}
