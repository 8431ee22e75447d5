import Control
import Glibc
import HostIO
import Primitives
import Testing

@Suite struct ControlTests {
    let scratch = Scratch()
    let service = EchoService()

    private func start(_ change: (inout ControlServer.Limits) -> Void = { _ in }, users: Set<UInt32>? = nil) throws
        -> ControlServer
    {
        var limits = ControlServer.Limits()
        change(&limits)
        return try ControlServer(
            directory: scratch.path, name: "control.sock", service: service, host: LinuxHost(), limits: limits,
            users: users)
    }

    private func client() throws -> ControlClient {
        try ControlClient(directory: scratch.path, name: "control.sock", host: LinuxHost())
    }

    @Test func `one connection carries several requests of one conversation`() throws {
        let server = try start()
        let client = try client()
        for number in 1...3 {
            let answer = try client.call("echo", ["text": "a\"\\\nü"])
            #expect(answer["arguments"]?["text"]?.text == "a\"\\\nü")
            #expect(answer["number"]?.int == number)
        }
        #expect(client.process == getpid())
        server.stop(milliseconds: 5000)
    }

    @Test func `bytes arrive as they were sent, between other answers`() throws {
        let server = try start()
        let client = try client()
        for count in [1, 4096, 65_537, controlDataLimit] {
            let buffer = ByteBuffer(count: count)
            try client.read("data", ["count": JSON(count)], into: buffer.bytes)
            #expect((0..<count).allSatisfy { buffer.bytes[$0] == UInt8(truncatingIfNeeded: $0 &* 31) })
            #expect(try client.call("echo")["number"] != nil)
        }
        server.stop(milliseconds: 5000)
    }

    @Test func `progress and events come before the answer, in order`() throws {
        let server = try start()
        let progress = Guarded<[UInt64]>([])
        var events: [Int] = []
        let answer = try client().call("count") { done, _ in
            progress.withLock { $0.append(done) }
            return false
        } event: { event in
            events.append(event["index"]?.int ?? -1)
            return false
        }
        #expect(answer.text == "done")
        #expect(progress.withLock { $0 } == [0, 1, 2, 3, 4])
        #expect(events == [0, 1, 2, 3, 4])
        server.stop(milliseconds: 5000)
    }

    @Test func `a refusal keeps its code and message, and the connection goes on`() throws {
        let server = try start()
        let client = try client()
        #expect(throws: ControlFailure(code: 10, message: "no verb nonsense")) { try client.call("nonsense") }
        #expect(try client.call("echo")["number"]?.int == 2)
        server.stop(milliseconds: 5000)
    }

    @Test(arguments: [
        "garbage", "{}", "[1,2]", "{\"protocol\":1}", "{\"protocol\":1,\"verb\":7}",
        "{\"protocol\":1,\"verb\":\"echo\",\"arguments\":[]}",
        "{\"protocol\":\"1\",\"verb\":\"echo\"}", "\u{0}\u{1}", "", "{\"verb\":\"echo\"}",
        String(repeating: "[", count: 100),
    ])
    func `a line that is no request is answered by one error, and the next is heard`(line: String) throws {
        let server = try start()
        let raw = try RawClient(scratch.path)
        try raw.send(line + "\n")
        let answer = try #require(try raw.line())
        #expect(answer["kind"]?.text == "error")
        #expect(answer["code"]?.int == 64)
        try raw.send("{\"protocol\":1,\"verb\":\"echo\"}\n")
        #expect(try raw.line()?["kind"]?.text == "result")
        server.stop(milliseconds: 5000)
    }

    @Test func `another protocol version is refused by name`() throws {
        let server = try start()
        let raw = try RawClient(scratch.path)
        try raw.send("{\"protocol\":2,\"verb\":\"echo\"}\n")
        #expect(try raw.line()?["code"]?.int == 63)
        server.stop(milliseconds: 5000)
    }

    @Test func `a line without an end is cut off at its limit`() throws {
        let server = try start()
        let raw = try RawClient(scratch.path)
        let block = [UInt8](repeating: UInt8(ascii: "x"), count: 65536)
        // The server may close before all is sent; that is its right.
        do { for _ in 0..<(controlLineLimit / 65536 + 4) { try raw.send(block) } } catch {}
        while let answer = try raw.line() { #expect(answer["code"]?.int == 64) }
        #expect(try client().call("echo")["number"]?.int == 1)
        server.stop(milliseconds: 5000)
    }

    @Test func `half a line holds its connection only until the deadline`() throws {
        let server = try start { $0.lineMs = 50 }
        let raw = try RawClient(scratch.path)
        try raw.send("{\"protocol\":1,")
        #expect(try raw.line()?["kind"]?.text == "error")
        #expect(try raw.line() == nil)
        server.stop(milliseconds: 5000)
    }

    @Test func `a request in two parts is one request`() throws {
        let server = try start()
        let raw = try RawClient(scratch.path)
        try raw.send("{\"protocol\":1,")
        try raw.send("\"verb\":\"echo\"}\n{\"protocol\":1,\"verb\":\"echo\"}\n")
        #expect(try raw.line()?["value"]?["number"]?.int == 1)
        #expect(try raw.line()?["value"]?["number"]?.int == 2)
        server.stop(milliseconds: 5000)
    }

    @Test func `a client of another user is refused`() throws {
        let server = try start(users: [geteuid() &+ 1])
        let client = try client()
        let failure = #expect(throws: ControlFailure.self) { try client.call("echo") }
        #expect(failure?.code == 1)
        server.stop(milliseconds: 5000)
    }

    @Test func `one client too many gets a line that says so, and the others go on`() throws {
        let server = try start { $0.connections = 3 }
        let clients = try (0..<3).map { _ in try client() }
        for client in clients { _ = try client.call("echo") }
        let failure = #expect(throws: ControlFailure.self) { try self.client().call("echo") }
        #expect(failure?.code == 11)
        for client in clients { #expect(try client.call("echo")["number"]?.int == 2) }
        server.stop(milliseconds: 5000)
    }

    @Test func `a client that goes away stops its work`() throws {
        let server = try start()
        let failure = #expect(throws: ControlFailure.self) {
            try client().call("work") { _, _ in true }
        }
        #expect(failure?.code == 130)
        #expect(service.stopped.wait(forNs: 20_000_000_000) { $0 ? true : nil } == true)
        server.stop(milliseconds: 5000)
    }

    @Test func `an answer that is too long becomes an error, not a broken stream`() throws {
        let server = try start()
        let client = try client()
        let failure = #expect(throws: ControlFailure.self) { try client.call("long") }
        #expect(failure?.code == 1)
        #expect(try client.call("echo")["number"]?.int == 2)
        server.stop(milliseconds: 5000)
    }

    @Test func `a stop lets a running answer end, and removes the socket`() throws {
        let server = try start()
        let service = service
        let answer = Guarded<String?>(nil)
        let path = scratch.path
        _ = LinuxHost().startThread(name: "client") {
            let text = try? ControlClient(directory: path, name: "control.sock", host: LinuxHost()).call("wait").text
            answer.withLock { $0 = text ?? "lost" }
            answer.wakeAll()
        }
        _ = service.waiting.wait { $0 == 1 ? true : nil }
        _ = LinuxHost().startThread(name: "stop") { server.stop(milliseconds: 20_000) }
        // The name goes first; then the answer may come.
        service.released.withLock { $0 = true }
        service.released.wakeAll()
        #expect(answer.wait(forNs: 20_000_000_000) { $0 } == "released")
        server.stop(milliseconds: 20_000)
        #expect(throws: IOError.self) { try client() }
        #expect(access(path + "/control.sock", F_OK) != 0)
    }
}
