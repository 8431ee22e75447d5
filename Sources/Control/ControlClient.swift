internal import Glibc
public import HostIO
public import Primitives

/// Asks the daemon behind a control socket. One thread uses it.
public final class ControlClient {
    private let socket: LocalSocket
    private let reader: LineReader
    private let path: String
    /// The daemon's process, as the kernel knows it.
    public let process: Int32

    /// - Throws: ENOENT where no such socket is, ECONNREFUSED when its owner has gone, EACCES for a foreign user.
    public init(directory: String, name: String, host: any Host) throws(IOError) {
        socket = try LocalSocket.connect(directory: directory, name: name)
        process = try socket.peer().process
        reader = LineReader(socket, host: host)
        path = directory + "/" + name
    }

    /// One request and its answer.
    /// - Parameter progress: called for each progress line; true breaks the connection, which stops the work.
    /// - Throws: what the daemon says; code 1 when it went away; code 130 after `progress` or `event` said stop.
    public func call(
        _ verb: String, _ arguments: JSON = [:], progress: ((_ done: UInt64, _ total: UInt64) -> Bool)? = nil,
        event: ((JSON) -> Bool)? = nil
    ) throws(ControlFailure) -> JSON {
        try send(ControlRequest(verb: verb, arguments: arguments))
        while true {
            let answer = try line()
            switch answer["kind"]?.text {
            case "progress":
                let stop = progress?(answer["done_bytes"]?.count ?? 0, answer["total_bytes"]?.count ?? 0) ?? false
                if stop { try interrupt() }
            case "event":
                if let body = answer["event"], event?(body) ?? false { try interrupt() }
            case "result": return answer["value"] ?? .null
            default: throw failure(answer)
            }
        }
    }

    /// A request that is answered by bytes; they fill `target`.
    public func read(
        _ verb: String, _ arguments: JSON, into target: UnsafeMutableRawBufferPointer
    ) throws(ControlFailure) {
        try send(ControlRequest(verb: verb, arguments: arguments))
        let answer = try line()
        guard answer["kind"]?.text == "data" else { throw failure(answer) }
        guard answer["length"]?.int == target.count else { throw lost("its answer has another length") }
        do {
            try reader.block(into: target)
        } catch {
            throw lost(describe(error))
        }
    }

    private func interrupt() throws(ControlFailure) {
        socket.shutDown()
        throw ControlFailure(code: 130, message: "interrupted")
    }

    private func send(_ request: ControlRequest) throws(ControlFailure) {
        let bytes = Array((request.json.description + "\n").utf8)
        do throws(IOError) {
            try socket.write(bytes)
        } catch {
            // A daemon that refuses a client says why before it closes.
            if let answer = try? line() { throw failure(answer) }
            throw lost(error.reason)
        }
    }

    private func line() throws(ControlFailure) -> JSON {
        let bytes: [UInt8]?
        do {
            bytes = try reader.line(idleMs: -1, lineMs: 60_000)
        } catch {
            throw lost(describe(error))
        }
        guard let bytes else { throw lost("it closed the connection") }
        do {
            return try JSON(parsing: bytes)
        } catch {
            throw lost("its answer is not JSON: \(error)")
        }
    }

    private func describe(_ error: LineReader.Failure) -> String {
        switch error {
        case .tooLong: "its answer is longer than \(controlLineLimit) bytes"
        case .deadline: "its answer stopped half way"
        case .cut: "it closed the connection"
        case .io(let error): error.reason
        }
    }

    private func failure(_ answer: JSON) -> ControlFailure {
        guard answer["kind"]?.text == "error", let code = answer["code"]?.int, let message = answer["message"]?.text
        else { return lost("its answer is of no known kind") }
        return ControlFailure(code: Int32(clamping: code), message: message)
    }

    private func lost(_ why: String) -> ControlFailure {
        ControlFailure(
            code: 1, message: "\(path): no answer from the daemon (process \(process)): \(why); see its log")
    }
}
