import Format
import HostIO
import Primitives

/// The journal's batches from the tail on, as far as they are chained.
enum JournalInspection {
    /// Batches that are shown one by one; the rest is counted.
    private static let batchesShown = 64

    static func json(_ directory: any Directory, _ slot: SuperSlot?) -> JSON {
        guard let slot else { return ["state": "no super slot verifies, so its tail is unknown"] }
        var document: JSON = [
            "size": JSON(slot.journalSize), "tail": JSON(slot.tailOffset), "tail_sequence": JSON(slot.tailSequence),
        ]
        do {
            let file = try directory.open("journal", .readOnly)
            let scan = try Scan(file, slot)
            document = document.adding("batches", JSON(scan.count)).adding("bytes", JSON(scan.bytes))
                .adding("records", JSON(scan.records)).adding("last_revision", JSON(scan.lastRevision))
                .adding("end", .string(scan.end)).adding("first_batches", .array(scan.shown))
        } catch {
            document = document.adding("state", .string(problem(error)))
        }
        return document
    }

    private struct Scan {
        var count = 0
        var bytes: UInt64 = 0
        var records = 0
        var lastRevision: UInt64
        var end = ""
        var shown: [JSON] = []

        init(_ file: any File, _ slot: SuperSlot) throws(IOError) {
            lastRevision = slot.checkpointRevision
            let buffer = ByteBuffer(count: 2 * FormatLimit.batchMetaBlocks * blockSize)
            var offset = slot.tailOffset
            var sequence = slot.tailSequence
            var previous = slot.previousBatchHash
            while bytes < slot.journalSize {
                let (found, problem) = try Scan.batch(file, at: offset, buffer, slot)
                guard let (batch, meta) = found else {
                    end = problem
                    return
                }
                guard batch.sequence == sequence, batch.previousHash == previous, batch.ringOffset == offset else {
                    end = "the next batch is of an earlier lap"
                    return
                }
                note(batch, meta)
                previous = batch.hash
                sequence += 1
                offset += batch.byteCount
                if batch.flags.contains(.wrap) || offset >= slot.journalSize { offset = 0 }
            }
            end = "the ring is full"
        }

        /// The batch at `offset` from its first copy that verifies, or why there is none.
        private static func batch(
            _ file: any File, at offset: UInt64, _ buffer: ByteBuffer, _ slot: SuperSlot
        ) throws(IOError) -> (found: (JournalBatch, UnsafeRawBufferPointer)?, problem: String) {
            let length = Int(min(UInt64(buffer.count), slot.journalSize - offset))
            try file.readPadded(into: buffer.part(0, length), at: offset)
            let all = UnsafeRawBufferPointer(buffer.part(0, length))
            var problem = ""
            for start in copyOffsets where start < length {
                let copy = UnsafeRawBufferPointer(rebasing: all[start...])
                do throws(FormatError) {
                    return ((try JournalBatch(decoding: copy), copy), "")
                } catch {
                    if start == 0 {
                        problem = error.cause == .notThis ? "no batch follows" : "the next batch: \(error.what)"
                    }
                }
            }
            return (nil, problem)
        }

        /// Where the metadata or its second copy may begin.
        private static let copyOffsets =
            [0, JournalBatch.smallMetaBytes] + (1...FormatLimit.batchMetaBlocks).map { $0 * blockSize }

        private mutating func note(_ batch: JournalBatch, _ meta: UnsafeRawBufferPointer) {
            count += 1
            bytes += batch.byteCount
            records += batch.pieceCount
            lastRevision = max(lastRevision, batch.lastRevision)
            guard shown.count < batchesShown else { return }
            var pieces: [JSON] = []
            for index in 0..<min(batch.pieceCount, 16) {
                let offset = JournalBatch.headerBytes + index * JournalPiece.byteCount
                guard let piece = try? JournalPiece(decoding: meta, at: offset) else { continue }
                pieces.append([
                    "revision": JSON(piece.revision), "operation": .string("\(piece.operation)"),
                    "start": JSON(piece.block * blockSize64),
                    "length": JSON(piece.count * blockSize64), "direct": .bool(piece.flags.contains(.direct)),
                ])
            }
            shown.append([
                "sequence": JSON(batch.sequence), "offset": JSON(batch.ringOffset),
                "first_revision": JSON(batch.firstRevision),
                "last_revision": JSON(batch.lastRevision), "flushed_revision": JSON(batch.flushedRevision),
                "records": JSON(batch.pieceCount), "payload_blocks": JSON(batch.payloadBlocks),
                "first_records": .array(pieces),
            ])
        }
    }
}
