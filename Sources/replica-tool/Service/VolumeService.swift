import Control
import HostIO
import Primitives
import Replication
import Storage

/// Answers everything that can be asked of an open volume. The same code answers in the tool's own process and, for a
/// mounted volume, behind the control socket: so a verb has one behaviour.
final class VolumeService: ControlService {
    let engine: Engine
    let host: any Host
    let target: Target
    let events: EventHub
    /// nil unless the volume is mounted.
    let mount: (any MountControl)?

    init(engine: Engine, target: Target, host: any Host, mount: (any MountControl)? = nil) {
        self.engine = engine
        self.target = target
        self.host = host
        self.mount = mount
        events = EventHub(host: host)
    }

    func newConversation() -> any ControlConversation { VolumeConversation(self) }

    /// The engine's state as the volume's. A verb opens a volume that nobody serves read-only for itself: that is no
    /// state of the volume.
    func status() -> EngineStatus {
        var status = engine.status()
        if mount == nil, status.state == "read-only" {
            status.state = "healthy"
            status.cause = nil
        }
        return status
    }
}

/// What the service asks of the mount that it belongs to.
protocol MountControl: AnyObject, Sendable {
    /// `pid`, `mountpoint`, `read_only`, …
    var description: JSON { get }
    var mountpoint: String { get }
    /// Takes the mount away; with `lazy` also while somebody uses it.
    /// - Throws: `inUse` while somebody uses it: it stays mounted.
    func unmount(lazy: Bool) throws(ToolError)
    /// Waits until the volume is closed: everything durable.
    func waitUntilClosed() throws(ToolError)
    func sizeChanged()
    /// The kernel writes what it still holds of the volume and forgets it.
    func forgetContent()
    /// Whether the caller has to tell the kernel a new size by truncate(2).
    var needsTruncateAfterResize: Bool { get }
}

/// One client's questions. It keeps the snapshots open that the client reads.
final class VolumeConversation: ControlConversation {
    let service: VolumeService
    var engine: Engine { service.engine }
    private let views = Guarded<[String: any VolumeView]>([:])
    private let buffer = Guarded<ByteBuffer?>(nil)

    init(_ service: VolumeService) { self.service = service }

    func answer(_ request: ControlRequest, _ channel: any ControlChannel) throws(ControlFailure) -> ControlAnswer {
        do {
            if request.verb == "read" { return try read(Arguments(request)) }
            return .value(try value(Arguments(request), channel))
        } catch {
            throw error.controlFailure
        }
    }

    private func value(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        switch arguments.verb {
        case "hello": return [:]
        case "info": return try info()
        case "status": return status()
        case "events": return try follow(arguments, channel)
        case "layers": return try layers(channel)
        case "snapshot.list": return try listSnapshots(arguments, channel)
        case "snapshot.create": return try createSnapshot(arguments)
        case "snapshot.delete": return try deleteSnapshot(arguments, channel)
        case "snapshot.revert": return try revert(arguments)
        case "snapshot.rename": return try renameSnapshot(arguments)
        case "snapshot.protect": return try protectSnapshot(arguments)
        case "diff": return try difference(arguments, channel)
        case "map": return try map(arguments, channel)
        case "resize": return try resize(arguments)
        case "verify": return try verify(arguments, channel)
        case "view": return try describeView(arguments)
        case "stop": return try stop(arguments)
        default:
            throw ToolError(
                .usage, "the daemon knows no request '\(printable(arguments.verb))': it is of another version")
        }
    }

    // MARK: The volume as a whole

    private func info() throws(ToolError) -> JSON {
        let allocated = try during("cannot measure \(service.target.path)", engine.allocatedBytes)
        let space = try during("cannot measure \(service.target.path)", engine.space)
        let snapshots = engine.snapshots()
        return [
            "uuid": .string(engine.identifier.description),
            "replica_uuid": .string(engine.replicaIdentifier.description), "size": JSON(engine.size),
            "allocated": JSON(allocated), "labels": JSON(engine.labels), "snapshots": JSON(snapshots.count),
            "state": .string(service.status().state), "space": space.json, "recovery": engine.recovery.json,
            "served": service.mount?.description ?? .null,
        ]
    }

    private func status() -> JSON {
        service.status().json.adding("outcome_at_open", .string(engine.recovery.outcome.rawValue))
            .adding("served", service.mount?.description ?? .null)
    }

    private func layers(_ channel: any ControlChannel) throws(ToolError) -> JSON {
        let usage = try during("cannot measure the layers of \(service.target.path)", engine.usage)
        return try send(usage.map(\.json), channel)
    }

    private func resize(_ arguments: Arguments) throws(ToolError) -> JSON {
        let size = try arguments.count("size")
        let before = engine.size
        if size < before, !arguments.flag("shrink") {
            throw ToolError(
                .usage,
                "\(SizeText.human(size)) is less than the volume's \(SizeText.human(before)): add --shrink to cut it off"
            )
        }
        try during("cannot resize \(service.target.path)") { () throws(StoreError) in try engine.resize(to: size) }
        let remark = noteSize()
        service.events.publish("change", "volume", engine.identifier.description, ["size": JSON(engine.size)])
        service.mount?.sizeChanged()
        let file =
            (service.mount?.needsTruncateAfterResize ?? false) ? service.mount.map { $0.mountpoint + "/volume" } : nil
        return ["old_size": JSON(before), "size": JSON(engine.size), "remark": JSON(remark), "truncate": JSON(file)]
    }

    /// Brings the copy of the size in the volume's record up to date. The replica decides about the size, so a record
    /// that could not be written is a remark.
    func noteSize() -> String? {
        guard let directory = service.target.volume else { return nil }
        do throws(StoreError) {
            // The record may have changed since it was read.
            let now = try VolumeDirectory(path: directory.path, host: service.host)
            if now.record.size != engine.size { _ = try now.withSize(engine.size, host: service.host) }
            return nil
        } catch {
            return "the volume has its new size, but its record was not updated: \(error)"
        }
    }

    private func verify(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let report = try during("cannot verify \(service.target.path)") { () throws(StoreError) in
            try engine.verify(
                quick: arguments.flag("quick"), rate: arguments.optionalCount("rate"), progress: progress(channel))
        }
        _ = try send(report.findings.map(\.json), channel)
        return report.json
    }

    private func stop(_ arguments: Arguments) throws(ToolError) -> JSON {
        guard let mount = service.mount else { throw ToolError(.usage, "the volume is not mounted") }
        try mount.unmount(lazy: arguments.flag("lazy"))
        try mount.waitUntilClosed()
        return [:]
    }

    // MARK: Content

    func view(_ snapshot: String?) throws(ToolError) -> any VolumeView {
        guard let snapshot else { return engine }
        if let view = views.withLock({ $0[snapshot] }) { return view }
        let view = try during("cannot open \(service.target.path)@\(snapshot)") { () throws(StoreError) in
            try engine.openSnapshot(name: snapshot)
        }
        views.withLock { $0[snapshot] = view }
        return view
    }

    private func describeView(_ arguments: Arguments) throws(ToolError) -> JSON {
        let view = try view(arguments.optionalText("snapshot"))
        let allocated = try during("cannot measure \(service.target.path)", view.allocatedBytes)
        return ["size": JSON(view.size), "allocated": JSON(allocated)]
    }

    private func read(_ arguments: Arguments) throws(ToolError) -> ControlAnswer {
        let offset = try arguments.count("offset")
        let length = try arguments.count("length")
        guard length > 0, length <= UInt64(controlDataLimit) else {
            throw ToolError(.usage, "a read of \(length) bytes: 1 to \(controlDataLimit) are possible")
        }
        let view = try view(arguments.optionalText("snapshot"))
        let buffer = buffer.withLock { buffer -> ByteBuffer in
            let result = buffer ?? ByteBuffer(count: controlDataLimit)
            buffer = result
            return result
        }
        try during("cannot read \(service.target.path)") { () throws(StoreError) in
            try view.read(at: offset, into: buffer.part(0, Int(length)))
        }
        return .data(buffer, count: Int(length))
    }

    private func map(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let view = try view(arguments.optionalText("snapshot"))
        var offset = arguments.optionalCount("offset") ?? 0
        let end = arguments.optionalCount("length").map { min(view.size, offset + $0) } ?? view.size
        var left = arguments.optionalCount("limit") ?? UInt64.max
        while offset < end, left > 0 {
            let limit = Int(min(left, UInt64(extentsPerMessage)))
            let extents = try during("cannot map \(service.target.path)") { () throws(StoreError) in
                try view.extents(at: offset, length: end - offset, limit: limit)
            }
            guard let last = extents.last else { break }
            left -= min(left, UInt64(extents.count))
            offset = last.start + last.length
            if channel.event(["extents": .array(extents.map(\.json))]) { throw ToolError(.interrupted, "interrupted") }
        }
        return ["size": JSON(view.size), "layers": JSON(engine.status().layerCount)]
    }

    // MARK: Helpers

    /// Sends the items in portions that fit a line, each an event.
    func send(_ items: [JSON], _ channel: any ControlChannel) throws(ToolError) -> JSON {
        var index = 0
        while index < items.count {
            let end = min(items.count, index + itemsPerMessage)
            if channel.event(["items": .array(Array(items[index..<end]))]) {
                throw ToolError(.interrupted, "interrupted")
            }
            index = end
        }
        return ["count": JSON(items.count)]
    }

    func progress(_ channel: any ControlChannel) -> ProgressHandler {
        { channel.progress(doneBytes: $0.doneBytes, totalBytes: $0.totalBytes) }
    }
}

/// An extent is about 200 bytes of JSON; a snapshot with all its labels at most 7 KiB. Both stay below a control line.
let extentsPerMessage = 2000
private let itemsPerMessage = 100

/// A request's arguments, checked as they are taken.
struct Arguments {
    let verb: String
    private let json: JSON

    init(_ request: ControlRequest) {
        verb = request.verb
        json = request.arguments
    }

    func text(_ name: String) throws(ToolError) -> String {
        guard let value = json[name]?.text else { throw ToolError(.usage, "\(printable(verb)): no '\(name)' is given") }
        return value
    }
    func count(_ name: String) throws(ToolError) -> UInt64 {
        guard let value = json[name]?.count else {
            throw ToolError(.usage, "\(printable(verb)): no '\(name)' is given")
        }
        return value
    }
    /// A snapshot's name that keeps the rule.
    func name(_ key: String) throws(ToolError) -> String {
        let name = try text(key)
        try Address.checkSnapshotName(name)
        return name
    }
    func optionalText(_ name: String) -> String? { json[name]?.text }
    func optionalCount(_ name: String) -> UInt64? { json[name]?.count }
    func flag(_ name: String) -> Bool { json[name]?.flag ?? false }
    func texts(_ name: String) -> [String: String] { json[name]?.texts ?? [:] }
}
