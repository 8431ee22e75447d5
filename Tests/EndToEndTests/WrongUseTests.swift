import Foundation
import Testing

extension EndToEnd {
    /// Wrong use: one clear line and the exit code of the table in docs/operations.md.
    @Suite(.needsTool) struct WrongUse {
        /// Expects the code, and exactly one line on stderr that names what it should and shows no inner life.
        private func expect(
            _ scratch: Scratch, _ arguments: [String], _ code: Int32, naming words: [String] = [],
            environment: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let result = try Running([Machine.tool] + arguments, in: scratch, environment: environment).wait()
            #expect(result.code == code, "\(result)", sourceLocation: sourceLocation)
            // Usage errors may show the usage line and a hint below the message.
            if code != 64 { #expect(result.errorLines.count == 1, "\(result)", sourceLocation: sourceLocation) }
            #expect(!result.errors.isEmpty, "\(result)", sourceLocation: sourceLocation)
            for word in words {
                #expect(result.errors.contains(word), "no \"\(word)\" in \(result)", sourceLocation: sourceLocation)
            }
            for word in ["Fatal error", "StoreError", "Optional(", "StoreError", "0x0000"] {
                #expect(!result.errors.contains(word), "\(result)", sourceLocation: sourceLocation)
            }
        }

        @Test func `a path that is not there`() throws {
            try Scratch.use { scratch in
                let missing = scratch("none")
                for verb in ["info", "status", "verify", "inspect"] {
                    try expect(scratch, [verb, missing], 10, naming: [missing])
                }
                try expect(scratch, ["mount", missing, try scratch.folder("mnt")], 10, naming: [missing])
                try expect(scratch, ["snapshot", "list", missing], 10, naming: [missing])
                try expect(scratch, ["create", scratch("no/such/parent"), "--size", "1M"], 10)
            }
        }

        @Test(arguments: [
            "0", "-1", "1000", "4097", "10GB", "1Q", "", "99999999999999999999", "65T", "1.0001K", "0x1000", "1 G",
        ])
        func `a size that cannot be`(size: String) throws {
            try Scratch.use { scratch in
                try expect(scratch, ["create", scratch("v"), "--size=\(size)"], 64)
                #expect(!FileManager.default.fileExists(atPath: scratch("v")), "it left something behind")
            }
        }

        @Test(arguments: [
            ("4096", 4096), ("64K", 65_536), ("1M", 1 << 20), ("1MiB", 1 << 20), ("1G", 1 << 30), ("1.5M", 3 << 19),
        ])
        func `a size that can be`(size: String, bytes: Int) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: size)
                let said = try volume.tool(["info", volume.path, "--json"])
                let value = try JSONSerialization.jsonObject(with: Data(said.utf8)) as? [String: Any]
                #expect(value?["size"] as? Int == bytes, "\(said)")
                #expect(value?["schema_version"] != nil, "\(said)")
            }
        }

        @Test func `snapshot names and targets`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                for name in [".a", "-a", "a b", "a/b", String(repeating: "n", count: 129), "ä"] {
                    try expect(scratch, ["snapshot", "create", "\(volume.path)@\(name)"], 64)
                }
                try expect(scratch, ["snapshot", "create", volume.path], 64)
                try volume.snapshot(String(repeating: "n", count: 128))
                try volume.snapshot("a.b_c-d:e")
                try expect(scratch, ["snapshot", "create", volume.path + "@a.b_c-d:e"], 11, naming: ["a.b_c-d:e"])
                try expect(scratch, ["info", volume.path + "@missing"], 10, naming: ["missing"])
                try expect(scratch, ["snapshot", "delete", volume.path + "@missing", "--yes"], 10, naming: ["missing"])
                try expect(scratch, ["snapshot", "revert", volume.path + "@missing", "--yes"], 10, naming: ["missing"])
            }
        }

        @Test func `a destructive verb without --yes away from a terminal is refused and does nothing`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try volume.snapshot("a")
                try expect(scratch, ["snapshot", "delete", volume.path + "@a"], 64, naming: ["--yes"])
                try expect(
                    scratch, ["snapshot", "revert", volume.path + "@a", "--discard-head"], 64, naming: ["--yes"])
                try expect(scratch, ["resize", volume.path, "512K"], 64, naming: ["--shrink"])
                try expect(scratch, ["resize", volume.path, "512K", "--shrink"], 64, naming: ["--yes"])
                #expect(try volume.tool(["snapshot", "list", volume.path]).contains("a"))
                try volume.tool(["snapshot", "delete", volume.path + "@a", "--dry-run"])
                #expect(try volume.tool(["snapshot", "list", volume.path]).contains("a"))
            }
        }

        @Test func `a directory of something else is refused and left alone`() throws {
            try Scratch.use { scratch in
                let foreign = try scratch.folder("foreign")
                try "mine\n".write(toFile: foreign + "/note", atomically: false, encoding: .utf8)
                try expect(scratch, ["info", foreign], 63, naming: [foreign])
                try expect(scratch, ["mount", foreign, try scratch.folder("mnt")], 63, naming: [foreign])
                try expect(scratch, ["create", foreign, "--size", "1M"], 64, naming: [foreign])
                #expect(try scratch.must("ls", "-A", foreign) == "note\n")
                // A plain file is no directory at all.
                try expect(scratch, ["info", foreign + "/note"], 63, naming: ["note"])
            }
        }

        @Test func `a volume of a newer format is refused and left alone`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try scratch.must("sed", "-i", "s/\\(\"format_version\"[^0-9]*\\)1/\\12/", volume.path + "/volume.json")
                let before = try scratch.sum(volume.path + "/volume.json")
                for verb in ["info", "verify"] { try expect(scratch, [verb, volume.path], 63, naming: [volume.path]) }
                try scratch.expectSum(volume.path + "/volume.json", before)
            }
        }

        @Test func `create does not touch a volume that is there`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                let before = try scratch.must("find", volume.path, "-type", "f", "-printf", "%P %s %T@\\n")
                try expect(scratch, ["create", volume.path, "--size", "2M"], 11, naming: [volume.path])
                #expect(try scratch.must("find", volume.path, "-type", "f", "-printf", "%P %s %T@\\n") == before)
            }
        }

        @Test func `unknown verbs and flags`() throws {
            try Scratch.use { scratch in
                try expect(scratch, ["fly"], 64)
                try expect(scratch, ["info"], 64)
                try expect(scratch, ["info", "--no-such-flag", "x"], 64, naming: ["--no-such-flag"])
                for help in [["--help"], ["help"], ["help", "create"], ["snapshot", "--help"]] {
                    let result = try Running([Machine.tool] + help, in: scratch).wait()
                    #expect(result.code == 0 && !result.output.isEmpty && result.errors.isEmpty, "\(result)")
                }
            }
        }

        @Test(.enabled(if: Machine.isRoot, "needs root, to become somebody else"))
        func `no permission`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                try scratch.must("chmod", "755", scratch.path)
                // The tool may lie where nobody may look, so it is copied.
                try scratch.must("cp", Machine.tool, scratch("replica-tool"))
                let result = try scratch.run(
                    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", scratch("replica-tool"), "info",
                    volume.path)
                #expect(result.code == 1, "\(result)")
                #expect(result.errorLines.count == 1 && result.errors.contains("ermission"), "\(result)")
                // Where not even the way there may be looked at, that is said, and not that nothing is there.
                try scratch.must("chmod", "700", volume.path)
                let hidden = try scratch.run(
                    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", scratch("replica-tool"), "info",
                    volume.path + "/replica-1")
                #expect(hidden.code == 1 && hidden.errors.contains("ermission"), "\(hidden)")
            }
        }

        @Test(.enabled(if: Machine.isRoot, "needs root, to hide /dev/fuse in a mount namespace"))
        func `no /dev/fuse, and a mount point that is none`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "1M")
                let point = try scratch.folder("mnt")
                let hidden = try scratch.run(
                    "unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev && exec \"$1\" mount \"$2\" \"$3\"", "sh",
                    Machine.tool,
                    volume.path, point)
                #expect(hidden.code == 1, "\(hidden)")
                #expect(hidden.errorLines.count == 1 && hidden.errors.contains("/dev/fuse"), "\(hidden)")
                try expect(scratch, ["mount", volume.path, scratch("no-such-folder")], 10, naming: ["no-such-folder"])
                try scratch.must("touch", scratch("file"))
                try expect(scratch, ["mount", volume.path, scratch("file")], 64, naming: ["file"])
                // None of it left the volume held.
                try volume.tool(["verify", volume.path])
            }
        }

        @Test func `errors are a JSON line on request`() throws {
            try Scratch.use { scratch in
                let result = try scratch.run(Machine.tool, "info", scratch("none"), "--json")
                #expect(result.code == 10)
                let line = try #require(result.errorLines.last)
                let value = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(value?["message_type"] as? String == "exit_error", "\(result)")
                #expect(value?["code"] as? Int == 10, "\(result)")
            }
        }
    }
}
