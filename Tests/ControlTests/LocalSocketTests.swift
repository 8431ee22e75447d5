import Control
import Glibc
import HostIO
import Primitives
import Testing

@Suite struct LocalSocketTests {
    let scratch = Scratch()

    @Test func `the socket of a dead daemon is replaced, in one step and with mode 0600`() throws {
        // Closing the descriptor leaves the name, as a killed process does.
        do { _ = try LocalSocket.listen(directory: scratch.path, name: "control.sock", backlog: 1) }
        let refused = #expect(throws: IOError.self) {
            try LocalSocket.connect(directory: scratch.path, name: "control.sock")
        }
        #expect(refused?.code == ECONNREFUSED)
        let server = try ControlServer(
            directory: scratch.path, name: "control.sock", service: EchoService(), host: LinuxHost())
        #expect(
            try ControlClient(directory: scratch.path, name: "control.sock", host: LinuxHost()).call("echo")["number"]?
                .int == 1)
        var info = stat()
        #expect(lstat(scratch.path + "/control.sock", &info) == 0)
        #expect(info.st_mode & 0o777 == 0o600)
        server.stop(milliseconds: 5000)
    }

    @Test func `a file of that name is left alone`() throws {
        let path = scratch.path + "/control.sock"
        let descriptor = open(path, O_CREAT | O_WRONLY, 0o600)
        close(descriptor)
        let failure = #expect(throws: IOError.self) {
            try LocalSocket.listen(directory: scratch.path, name: "control.sock", backlog: 1)
        }
        #expect(failure?.code == EEXIST)
        #expect(access(path, F_OK) == 0)
    }

    @Test func `a path longer than a socket address works`() throws {
        var directory = scratch.path
        var made: [String] = []
        for _ in 0..<5 {
            directory += "/" + String(repeating: "d", count: 60)
            #expect(mkdir(directory, 0o700) == 0)
            made.append(directory)
        }
        #expect(directory.utf8.count > 108)
        let server = try ControlServer(
            directory: directory, name: "control.sock", service: EchoService(), host: LinuxHost())
        #expect(
            try ControlClient(directory: directory, name: "control.sock", host: LinuxHost()).call("echo")["number"]?.int
                == 1)
        server.stop(milliseconds: 5000)
        for path in made.reversed() { #expect(rmdir(path) == 0) }
    }

    @Test func `no socket is told from one without an owner`() {
        let missing = #expect(throws: IOError.self) {
            try ControlClient(directory: scratch.path, name: "control.sock", host: LinuxHost())
        }
        #expect(missing?.code == ENOENT)
    }
}
