public import Primitives

/// The words of the control socket: one JSON object a line, each line at most `controlLineLimit` bytes.
///
///     client                                     daemon
///     {"protocol":1,"verb":V,"arguments":{…}} -->
///                                            <-- {"kind":"progress","done_bytes":D,"total_bytes":T}   any number
///                                            <-- {"kind":"event","event":{…}}                         any number
///                                            <-- {"kind":"result","value":…}                          the end, or
///                                            <-- {"kind":"data","length":N} and N bytes               the end, or
///                                            <-- {"kind":"error","code":C,"message":…}                the end
///
/// Then the client may ask again on the same connection. C is the exit code that the tool ends with.
public let controlProtocolVersion = 1

/// The longest line, in bytes with its end. Longer ones come from no client of this project.
public let controlLineLimit = 1 << 20

/// The most bytes in one `data` answer.
public let controlDataLimit = 1 << 20

/// One question to the daemon.
public struct ControlRequest: Sendable, Hashable {
    public var verb: String
    public var arguments: JSON

    public init(verb: String, arguments: JSON = [:]) {
        self.verb = verb
        self.arguments = arguments
    }

    /// Reads a line.
    /// - Throws: a failure with code 64 for anything that is not a request of this protocol version.
    public init(line: [UInt8]) throws(ControlFailure) {
        let document: JSON
        do {
            document = try JSON(parsing: line)
        } catch {
            throw ControlFailure(code: 64, message: "the control request is not JSON: \(error)")
        }
        guard let version = document["protocol"]?.int else {
            throw ControlFailure(code: 64, message: "the control request names no protocol version")
        }
        guard version == controlProtocolVersion else {
            throw ControlFailure(
                code: 63,
                message: "the control request speaks protocol \(version), this daemon \(controlProtocolVersion): "
                    + "use the replica-tool that mounted the volume")
        }
        guard let verb = document["verb"]?.text else {
            throw ControlFailure(code: 64, message: "the control request names no verb")
        }
        let arguments = document["arguments"] ?? [:]
        guard arguments.members != nil else {
            throw ControlFailure(code: 64, message: "the control request's arguments are no object")
        }
        self.init(verb: verb, arguments: arguments)
    }

    var json: JSON {
        ["protocol": JSON(controlProtocolVersion), "verb": .string(verb), "arguments": arguments]
    }
}

/// Why a request was not done.
public struct ControlFailure: Error, Sendable, Hashable {
    /// The exit code that stands for it.
    public var code: Int32
    public var message: String
    public init(code: Int32, message: String) {
        self.code = code
        self.message = message
    }
}

/// What a request ends with.
public enum ControlAnswer: Sendable {
    case value(JSON)
    case data(ByteBuffer, count: Int)
}

/// The way back while a request is being worked on.
public protocol ControlChannel: AnyObject, Sendable {
    /// Says how far the work is.
    /// - Returns: whether to stop: the client has gone, or wants no more.
    func progress(doneBytes: UInt64, totalBytes: UInt64) -> Bool
    /// Sends one event.
    /// - Returns: whether to stop.
    func event(_ event: JSON) -> Bool
    /// Whether the client has gone.
    var isClosed: Bool { get }
}

/// One client's requests, one after the other; it may remember things between them.
public protocol ControlConversation: AnyObject, Sendable {
    func answer(_ request: ControlRequest, _ channel: any ControlChannel) throws(ControlFailure) -> ControlAnswer
}

/// What stands behind the socket.
public protocol ControlService: AnyObject, Sendable {
    func newConversation() -> any ControlConversation
}
