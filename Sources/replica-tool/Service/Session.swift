import Control
import HostIO
import Primitives
import Replication
import Storage

/// A volume that can be asked: open in this process, or in the daemon that serves it.
protocol Session: AnyObject {
    var target: Target { get }
    /// Whether a daemon answers.
    var isServed: Bool { get }
    /// - Parameter progress: gets done and total bytes; true stops the work.
    /// - Parameter event: gets each part of a long answer; true stops it.
    func call(
        _ verb: String, _ arguments: JSON, progress: (@Sendable (UInt64, UInt64) -> Bool)?, event: ((JSON) -> Bool)?
    ) throws(ToolError) -> JSON
    /// Bytes of the head or a snapshot, at most `controlDataLimit` of them.
    func read(snapshot: String?, at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ToolError)
    /// Ends the session; a volume opened here is durable and closed afterwards.
    func close() throws(ToolError)
}

extension Session {
    func call(_ verb: String, _ arguments: JSON = [:]) throws(ToolError) -> JSON {
        try call(verb, arguments, progress: nil, event: nil)
    }

    /// An answer that comes in portions, as one list.
    func list(_ verb: String, _ arguments: JSON = [:]) throws(ToolError) -> [JSON] {
        var items: [JSON] = []
        _ = try call(verb, arguments, progress: nil) { portion in
            items += portion["items"]?.items ?? []
            return false
        }
        return items
    }

    /// Every extent of the view, in order.
    func map(
        snapshot: String?, offset: UInt64? = nil, length: UInt64? = nil, _ body: @escaping (JSON) -> Bool
    ) throws(ToolError) -> JSON {
        let arguments: JSON = [
            "snapshot": JSON(snapshot), "offset": offset.map { JSON($0) } ?? .null,
            "length": length.map { JSON($0) } ?? .null,
        ]
        return try call("map", arguments, progress: nil) { portion in
            for extent in portion["extents"]?.items ?? [] where body(extent) { return true }
            return Interruption.shared.isRequested
        }
    }
}

/// The volume is open in this process.
final class LocalSession: Session {
    let target: Target
    let engine: Engine
    var isServed: Bool { false }
    private let conversation: any ControlConversation

    /// - Throws: what `Engine.open` says.
    init(_ target: Target, mode: Engine.Mode, host: any Host) throws(ToolError) {
        self.target = target
        let engine = try during("cannot open \(target.path)") { () throws(StoreError) in
            try Engine.open(path: target.replicaPath, mode: mode, host: host)
        }
        self.engine = engine
        conversation = VolumeService(engine: engine, target: target, host: host).newConversation()
    }

    func call(
        _ verb: String, _ arguments: JSON, progress: (@Sendable (UInt64, UInt64) -> Bool)?, event: ((JSON) -> Bool)?
    ) throws(ToolError) -> JSON {
        guard case .value(let value) = try ask(verb, arguments, progress, event) else { return .null }
        return value
    }

    private func ask(
        _ verb: String, _ arguments: JSON, _ progress: (@Sendable (UInt64, UInt64) -> Bool)?,
        _ event: ((JSON) -> Bool)?
    ) throws(ToolError) -> ControlAnswer {
        // The closure does not outlive the call: the channel is gone when the answer is there.
        do {
            return try withoutActuallyEscaping(event ?? { _ in false }) { event throws(ControlFailure) in
                try conversation.answer(
                    ControlRequest(verb: verb, arguments: arguments), LocalChannel(progress: progress, event: event))
            }
        } catch {
            throw ToolError(error)
        }
    }

    func read(snapshot: String?, at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ToolError) {
        let arguments: JSON = ["snapshot": JSON(snapshot), "offset": JSON(offset), "length": JSON(target.count)]
        guard case .data(let buffer, let count) = try ask("read", arguments, nil, nil) else { return }
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer.readable[0..<count]))
    }

    func close() throws(ToolError) { _ = try during("cannot close \(target.path)", engine.close) }
}

private final class LocalChannel: ControlChannel, @unchecked Sendable {
    private let progressBody: (@Sendable (UInt64, UInt64) -> Bool)?
    /// Called on the thread of the request alone, as the conversation does.
    private let eventBody: (JSON) -> Bool

    init(progress: (@Sendable (UInt64, UInt64) -> Bool)?, event: @escaping (JSON) -> Bool) {
        progressBody = progress
        eventBody = event
    }

    func progress(doneBytes: UInt64, totalBytes: UInt64) -> Bool {
        progressBody?(doneBytes, totalBytes) ?? Interruption.shared.isRequested
    }
    func event(_ event: JSON) -> Bool { eventBody(event) }
    var isClosed: Bool { Interruption.shared.isRequested }
}

/// The volume is served by a daemon.
final class RemoteSession: Session {
    let target: Target
    var isServed: Bool { true }
    private let client: ControlClient
    var process: Int32 { client.process }

    init(_ target: Target, _ client: ControlClient) {
        self.target = target
        self.client = client
    }

    func call(
        _ verb: String, _ arguments: JSON, progress: (@Sendable (UInt64, UInt64) -> Bool)?, event: ((JSON) -> Bool)?
    ) throws(ToolError) -> JSON {
        do {
            return try client.call(verb, arguments, progress: progress, event: event)
        } catch {
            throw ToolError(error)
        }
    }

    func read(snapshot: String?, at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ToolError) {
        let arguments: JSON = ["snapshot": JSON(snapshot), "offset": JSON(offset), "length": JSON(target.count)]
        do {
            try client.read("read", arguments, into: target)
        } catch {
            throw ToolError(error)
        }
    }

    func close() throws(ToolError) {}
}
