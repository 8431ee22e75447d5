import Primitives
import Testing

@testable import Format

/// Every structure that is read from a disk, with every byte of it changed.
@Suite struct `Bytes of strangers` {
    private let volume = Identifier(high: 0x1111_2222_3333_4444, low: 0x5555_6666_7777_8888)

    private func slot() -> SuperSlot {
        var slot = SuperSlot(
            volume: volume, replica: Identifier(high: 1, low: 2), generation: Identifier(high: 3, low: 4),
            volumeSize: 64 << 20, journalSize: 8 << 20, headLayer: Identifier(high: 5, low: 6), chainNumber: 7,
            chainHash: Hash128(high: 8, low: 9), createdSeconds: 1_700_000_000, ballastSize: 9 << 20)
        slot.sequence = 41
        slot.flags = [.failed]
        slot.failure = SuperSlot.Failure(code: 5, revision: 17, block: 0, seconds: 3, text: "fdatasync: broken")
        return slot
    }

    @Test func `a super slot is read back as it was written`() throws {
        let page = ByteBuffer(count: SuperSlot.byteCount)
        slot().encode(into: page.bytes)
        #expect(try SuperSlot(decoding: page.readable) == slot())
    }

    @Test func `a super slot with any changed byte is refused`() throws {
        let page = ByteBuffer(count: SuperSlot.byteCount)
        slot().encode(into: page.bytes)
        for offset in 0..<page.count {
            for change: UInt8 in [0x01, 0x80, 0xFF] {
                page.bytes[offset] ^= change
                #expect(throws: FormatError.self, "byte \(offset)") { try SuperSlot(decoding: page.readable) }
                page.bytes[offset] ^= change
            }
        }
    }

    @Test func `a super slot of a newer version says so`() throws {
        let page = ByteBuffer(count: SuperSlot.byteCount)
        slot().encode(into: page.bytes)
        page.bytes.store(UInt32(2), at: 8)
        page.bytes.store(hash128(UnsafeRawBufferPointer(rebasing: page.readable[0..<4080])), at: 4080)
        let error = #expect(throws: FormatError.self) { try SuperSlot(decoding: page.readable) }
        #expect(error?.cause == .newer)
    }

    private func batch(_ meta: ByteBuffer, sums: Int) -> JournalBatch {
        let metaBytes = JournalBatch.headerBytes + JournalPiece.byteCount + sums * 8
        JournalPiece(revision: 9, operation: .write, flags: .last, firstPayload: 0, block: 100, count: UInt64(sums))
            .encode(into: meta.bytes, at: JournalBatch.headerBytes)
        for index in 0..<sums {
            meta.bytes.store(UInt64(index + 1), at: JournalBatch.headerBytes + JournalPiece.byteCount + index * 8)
        }
        var batch = JournalBatch(
            flags: [], metaBytes: metaBytes, pieceCount: 1, payloadBlocks: sums, sequence: 3, ringOffset: 8192,
            replicaTag: 77, salt: 88, firstRevision: 9, lastRevision: 9, flushedRevision: 5, groupFlushedRevision: 5,
            previousHash: Hash128(high: 1, low: 2), generation: Identifier(high: 3, low: 4))
        batch.seal(meta.bytes)
        return batch
    }

    @Test(arguments: [1, 200, 257])
    func `a batch's metadata stands twice, and each copy with any changed byte is refused`(sums: Int) throws {
        let meta = ByteBuffer(count: 2 * FormatLimit.batchMetaBlocks * blockSize)
        let written = batch(meta, sums: sums)
        let copy = JournalBatch.copyOffset(written.metaBytes)
        #expect(copy + written.metaBytes <= JournalBatch.metaBlocks(written.metaBytes) * blockSize)
        for start in [0, copy] {
            let part = UnsafeRawBufferPointer(rebasing: meta.readable[start...])
            #expect(try JournalBatch(decoding: part) == written)
            for offset in 0..<written.metaBytes {
                meta.bytes[start + offset] ^= 0x10
                #expect(throws: FormatError.self, "byte \(offset)") { try JournalBatch(decoding: part) }
                meta.bytes[start + offset] ^= 0x10
            }
        }
    }

    @Test func `a batch cut off anywhere is refused`() throws {
        let meta = ByteBuffer(count: 2 * FormatLimit.batchMetaBlocks * blockSize)
        let written = batch(meta, sums: 40)
        for length in 0..<written.metaBytes {
            let part = UnsafeRawBufferPointer(rebasing: meta.readable[0..<length])
            #expect(throws: FormatError.self) { try JournalBatch(decoding: part) }
        }
    }

    @Test func `a map page with any changed byte is refused, and so is one of another place`() throws {
        let layer = Identifier(high: 10, low: 20)
        let page = ByteBuffer(count: MapGeometry.pageBytes)
        for index in 0..<MapGeometry.entries {
            page.bytes.store(UInt64(index) &* 0x9E37_79B9_7F4A_7C15, at: MapGeometry.headerBytes + index * 8)
        }
        MapNode(level: 0, index: 12, checkpoint: 4, lastRevision: 99, layer: layer).seal(page.bytes)
        #expect(try MapNode(decoding: page.bytes, level: 0, index: 12, layer: layer).lastRevision == 99)
        for offset in 0..<page.count {
            page.bytes[offset] ^= 0x04
            #expect(throws: FormatError.self, "byte \(offset)") {
                try MapNode(decoding: page.bytes, level: 0, index: 12, layer: layer)
            }
            page.bytes[offset] ^= 0x04
        }
        #expect(throws: FormatError.self) { try MapNode(decoding: page.bytes, level: 0, index: 13, layer: layer) }
        #expect(throws: FormatError.self) { try MapNode(decoding: page.bytes, level: 1, index: 12, layer: layer) }
        #expect(throws: FormatError.self) {
            try MapNode(decoding: page.bytes, level: 0, index: 12, layer: Identifier(high: 10, low: 21))
        }
    }

    @Test func `no two pages of a map stand in the same place`() {
        var seen: Set<UInt64> = []
        let leaves: UInt64 = 504 * 504 + 3000
        for level in 0...3 {
            for index in 0..<MapGeometry.nodeCount(level: level, leaves: leaves) {
                for slot in 0..<2 {
                    let offset = MapGeometry.offset(level: level, index: index, slot: slot)
                    #expect(offset % 4096 == 0)
                    if !seen.insert(offset).inserted { Issue.record("level \(level), page \(index), slot \(slot)") }
                }
            }
        }
    }

    private func document() -> ChainDocument {
        let snapshot = ChainDocument.Snapshot(
            name: "monday", createdSeconds: 5, createdNanoseconds: 6, labels: ["a": "b"], protected: true, revision: 7,
            historyHash: Hash128(high: 1, low: 1).description, size: 1 << 20)
        let base = Identifier(high: 1, low: 1).description
        let head = Identifier(high: 2, low: 2).description
        return ChainDocument(
            volume: volume.description, number: 3, size: 1 << 20, head: head,
            layers: [
                ChainDocument.Layer(
                    uuid: base, parent: nil, snapshot: snapshot, root: "ff", present: 3, removed: false),
                ChainDocument.Layer(uuid: head, parent: base, snapshot: nil, root: "0", present: 0, removed: false),
            ], labels: [:])
    }

    @Test func `a chain document is read back as it was written, and never trusted further than it can be`() throws {
        let good = document()
        #expect(try ChainDocument(decoding: good.encoded()) == good)
        func refuses(_ change: (inout ChainDocument) -> Void, _ comment: Comment) {
            var bad = good
            change(&bad)
            #expect(throws: FormatError.self, comment) { try ChainDocument(decoding: bad.encoded()) }
        }
        refuses({ $0.layers[0].parent = $0.layers[1].uuid }, "a ring of parents")
        refuses({ $0.layers[1].parent = $0.layers[1].uuid }, "a layer on itself")
        refuses({ $0.layers[0].uuid = "../../etc/passwd" }, "a path for a name")
        refuses({ $0.layers[0].snapshot?.name = "../x" }, "a path for a snapshot's name")
        refuses({ $0.layers.append($0.layers[0]) }, "a layer twice")
        refuses({ $0.head = $0.layers[0].uuid }, "a snapshot as the head")
        refuses({ $0.size = UInt64.max }, "an endless volume")
        refuses({ $0.format = 2 }, "a newer format")
        refuses({ $0.layers[0].root = "zz" }, "a root that is no number")
        #expect(throws: FormatError.self) {
            try ChainDocument(decoding: Array(repeating: UInt8(ascii: "["), count: 100_000))
        }
        let bytes = good.encoded()
        for length in stride(from: 0, to: bytes.count - 2, by: 7) {
            #expect(throws: FormatError.self) { try ChainDocument(decoding: Array(bytes[0..<length])) }
        }
    }

    @Test func `a manifest with any changed byte is refused`() throws {
        let manifest = LayerManifest(volume: volume, layer: document().layers[0])
        var bytes = manifest.encoded()
        #expect(try LayerManifest(decoding: bytes) == manifest)
        for index in bytes.indices {
            bytes[index] ^= 0x02
            #expect(throws: FormatError.self, "byte \(index)") { try LayerManifest(decoding: bytes) }
            bytes[index] ^= 0x02
        }
    }

    @Test(arguments: ["", ".hidden", "-flag", "a/b", "../x", "a b", "ä", "a\n", String(repeating: "x", count: 129)])
    func `a snapshot is never named so`(name: String) { #expect(SnapshotName.fault(name) != nil) }

    @Test(arguments: ["a", "A.b_c-d:e", "2026-01-01T00:00:00Z", String(repeating: "x", count: 128)])
    func `a snapshot may be named so`(name: String) { #expect(SnapshotName.fault(name) == nil) }

    @Test func `small volumes have small journals`() {
        #expect(FormatLimit.journalSize(forVolume: 4096) == 4 << 20)
        #expect(FormatLimit.journalSize(forVolume: 64 << 20) == 8 << 20)
        #expect(FormatLimit.journalSize(forVolume: 1 << 40) == 128 << 20)
    }
}
