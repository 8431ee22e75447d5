import HostIO
import SimulatedHost
import Testing

@Suite struct DirectoryCrashTests {
    @Test func `a name needs the sync of its directory, and a file's sync does not do it`() throws {
        let (host, directory) = try SimulatedHost.withDirectory()
        let file = try directory.open("f", .create)
        try file.fill(1, at: 0, 4096)
        try file.sync()
        #expect(host.crash(.nothing).files(under: "/d") == [])
        #expect(try host.crash(.everything).bytes(of: "/d/f").count == 4096)
        try directory.sync()
        #expect(try host.crash(.nothing).bytes(of: "/d/f").count == 4096)
    }

    @Test func `a name that is durable before its file's bytes leads to an empty file`() throws {
        let (host, directory) = try SimulatedHost.withDirectory()
        let file = try directory.open("new", .create)
        try file.fill(1, at: 0, 4096)
        try directory.rename("new", to: "f")
        try directory.sync()
        #expect(try host.crash(.nothing).bytes(of: "/d/f") == [])
    }

    @Test func `names survive in any subset that keeps the order of the changes of each name`() throws {
        let (host, directory) = try SimulatedHost.withDirectory()
        _ = try directory.open("a", .create)
        _ = try directory.open("b", .create)
        try directory.rename("a", to: "c")
        var seen: Set<[String]> = []
        for seed in UInt64(0)..<80 {
            seen.insert(host.crash(.units(percent: 50), seed: seed).files(under: "/d"))
        }
        #expect(seen == [[], ["/d/a"], ["/d/b"], ["/d/a", "/d/b"], ["/d/c"], ["/d/b", "/d/c"]])
    }

    @Test func `a file that was removed may be there again, with its bytes`() throws {
        let (host, directory, file) = try SimulatedHost.withFile(count: 4096)
        _ = file
        try directory.remove("f")
        #expect(try host.crash(.nothing).bytes(of: "/d/f").allSatisfy { $0 == 1 })
        #expect(host.crash(.everything).files(under: "/d") == [])
        try directory.sync()
        #expect(host.crash(.nothing).files(under: "/d") == [])
    }

    @Test func `a closed and removed file may be there again with its bytes until the directory is synced`() throws {
        let (host, directory) = try SimulatedHost.withDirectory()
        do {
            let file = try directory.open("f", .create)
            try file.fill(1, at: 0, 4096)
            try file.sync()
            try directory.sync()
        }
        try directory.remove("f")
        #expect(try host.crash(.nothing).bytes(of: "/d/f").count == 4096)
    }

    @Test func `a rename over a file leaves the old or the new one, never none`() throws {
        let (host, directory, file) = try SimulatedHost.withFile(count: 4096)
        _ = file
        let next = try directory.open("next", .create)
        try next.fill(2, at: 0, 4096)
        try next.sync()
        try directory.sync()
        try directory.rename("next", to: "f")
        for seed in UInt64(0)..<10 {
            let bytes = try host.crash(.units(percent: 50), seed: seed).bytes(of: "/d/f")
            #expect(bytes.count == 4096 && (bytes[0] == 1 || bytes[0] == 2))
        }
    }

    @Test func `what is in a directory whose own name was not durable is gone with it`() throws {
        let (host, directory) = try SimulatedHost.withDirectory()
        try directory.createDirectory("inner")
        let inner = try directory.openDirectory("inner")
        let file = try inner.open("f", .create)
        try file.sync()
        try inner.sync()
        #expect(host.crash(.nothing).images(under: "/d").count == 1)
        try directory.sync()
        #expect(host.crash(.nothing).files(under: "/d") == ["/d/inner/f"])
    }
}
