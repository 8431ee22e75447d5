import HostIO
import Primitives
import Replication
import Storage

/// The store's values as the JSON that users and the control socket see. Sizes are bytes, times RFC 3339.

extension SnapshotInfo {
    /// - Parameter usage: the space of its layer, if it was asked for.
    func json(_ usage: LayerUsage?) -> JSON {
        var document: JSON = ["name": .string(name), "created": .string(created.rfc3339)]
        if let usage {
            document = document.adding("present", JSON(usage.presentBytes))
                .adding("exclusive", JSON(usage.exclusiveBytes))
                .adding("freed_if_deleted", JSON(usage.freedIfDeletedBytes))
                .adding("allocated", JSON(usage.allocatedBytes))
        }
        return document.adding("parent", JSON(parent)).adding("labels", JSON(labels))
            .adding("size", JSON(size)).adding("protected", .bool(isProtected)).adding("revision", JSON(revision))
            .adding("layer", .string(layer.description)).adding("in_live_chain", .bool(isInLiveChain))
            .adding("head_parent", .bool(isHeadParent))
    }
}

extension LayerUsage {
    var json: JSON {
        [
            "snapshot": JSON(snapshot), "layer": .string(layer.description), "present": JSON(presentBytes),
            "exclusive": JSON(exclusiveBytes), "freed_if_deleted": JSON(freedIfDeletedBytes),
            "allocated": JSON(allocatedBytes), "being_deleted": .bool(isBeingDeleted),
        ]
    }
}

extension MapExtent {
    var json: JSON {
        [
            "start": JSON(start), "length": JSON(length), "depth": depth.map { JSON($0) } ?? .null,
            "present": .bool(isPresent), "zero": .bool(isZero), "data": .bool(isPresent && !isZero),
            "layer": JSON(layer?.description), "snapshot": JSON(snapshot),
        ]
    }
}

extension DiffExtent {
    var json: JSON { ["start": JSON(start), "length": JSON(length), "exists": .bool(exists)] }
}

extension Space {
    var json: JSON { ["available": JSON(available), "total": JSON(total)] }
}

extension RecoveryReport {
    var json: JSON {
        [
            "outcome": .string(outcome.rawValue), "revision": JSON(revision), "flushed_revision": JSON(flushedRevision),
            "generation": .string(generation.description), "history_hash": .string(historyHash.description),
            "replayed_records": JSON(replayedRecords), "replayed_bytes": JSON(replayedBytes),
            "dropped_records": JSON(droppedRecords), "dropped_bytes": JSON(droppedBytes),
            "suspects": .array(suspects.prefix(1000).map(\.json)), "remarks": .array(remarks.map { .string($0) }),
            "elapsed_ns": JSON(elapsedNs),
        ]
    }
}

extension BlockRange {
    var json: JSON { ["start": JSON(offset), "length": JSON(byteCount)] }
}

extension VerifyReport {
    /// Without the findings, which are sent one by one.
    var json: JSON {
        [
            "damaged": .bool(isDamaged), "findings": JSON(findings.count), "checked_layers": JSON(checkedLayers),
            "checked_blocks": JSON(checkedBlocks), "checked_bytes": JSON(checkedBytes), "elapsed_ns": JSON(elapsedNs),
        ]
    }
}

extension VerifyReport.Finding {
    var json: JSON {
        [
            "kind": .string(kind), "path": .string(path), "start": range.map { JSON($0.offset) } ?? .null,
            "length": range.map { JSON($0.byteCount) } ?? .null, "snapshot": JSON(snapshot),
            "damage": .bool(isDamage), "message": .string(message),
        ]
    }
}

extension EngineStatus {
    var json: JSON {
        [
            "state": .string(state), "cause": JSON(cause), "uuid": .string(volume.description),
            "replica_uuid": .string(replica.description), "generation": .string(generation.description),
            "size": JSON(size), "revision": JSON(revision), "flushed_revision": JSON(flushedRevision),
            "checkpoint_revision": JSON(checkpointRevision), "history_hash": .string(historyHash.description),
            "layers": JSON(layerCount), "snapshots": JSON(snapshotCount), "journal_size": JSON(journalSize),
            "journal_used": JSON(journalUsed), "overlay_blocks": JSON(overlayBlocks), "work": JSON(work),
            "opened": .string(openedAt.rfc3339), "counters": counters.json,
        ]
    }
}

extension EngineCounters {
    var json: JSON {
        [
            "reads": JSON(reads), "read_bytes": JSON(readBytes), "writes": JSON(writes),
            "written_bytes": JSON(writtenBytes), "discards": JSON(discards), "flushes": JSON(flushes),
            "journal_bytes": JSON(journalBytes), "direct_bytes": JSON(directBytes), "checkpoints": JSON(checkpoints),
            "checkpoint_bytes": JSON(checkpointBytes), "damaged_reads": JSON(damagedReads),
        ]
    }
}
