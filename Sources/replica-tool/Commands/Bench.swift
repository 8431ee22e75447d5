import ArgumentParser
import Primitives
import Replication

struct Bench: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a volume or a file with a built-in load.",
        discussion: """
            A volume is loaded through its engine, without a mount; a file, MOUNTPOINT/volume for one, by pread(2) and \
            pwrite(2). Writes overwrite the content and need --yes.
            """)

    @Argument(help: "A volume, a replica, or a file.") var target: String
    @Option(help: ArgumentHelp("The pattern.", valueName: "read|write|randread|randwrite|randrw")) var rw: String =
        "randread"
    @Option(help: ArgumentHelp("Bytes of a request.", valueName: "size")) var bs: String = "4K"
    @Option(help: ArgumentHelp("Requests under way at a time.", valueName: "n")) var depth: Int = 1
    @Option(help: ArgumentHelp("Flush after so many writes of each; 0: never.", valueName: "n")) var fsync: Int = 0
    @Option(help: ArgumentHelp("How long it runs.", valueName: "n")) var seconds: Int = 5
    @Option(help: ArgumentHelp("Where the random numbers start.", valueName: "n")) var seed: UInt64 = 1
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        guard let pattern = BenchLoad.Pattern(rawValue: rw) else {
            throw ToolError(
                .usage,
                "no pattern '\(printable(rw))': write \(BenchLoad.Pattern.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        let block = try SizeText.bytes(bs)
        guard block <= 16 << 20 else { throw ToolError(.usage, "--bs \(bs): 16M is the most") }
        guard (1...256).contains(depth) else { throw ToolError(.usage, "--depth \(depth): 1 to 256 are possible") }
        guard (1...86_400).contains(seconds) else {
            throw ToolError(.usage, "--seconds \(seconds): 1 to 86400 are possible")
        }
        guard fsync >= 0 else { throw ToolError(.usage, "--fsync \(fsync): 0 or more are possible") }
        let load = BenchLoad(
            pattern: pattern, blockBytes: block, depth: depth, flushEvery: fsync,
            nanoseconds: UInt64(seconds) * 1_000_000_000)
        let address = try Address(withoutSnapshot: target)
        let isFile = exists(address.path) && !isDirectory(address.path)
        let found = isFile ? nil : try context.target(address.path)
        if let served = try found?.served() {
            throw ToolError(
                .inUse,
                "cannot load \(address.path) beside its mount: \(try served.whoServes()); measure the file MOUNTPOINT/volume instead"
            )
        }
        if context.isDryRun("run \(rw) on \(address.path) for \(seconds) s") { return .done }
        if pattern.writes { try context.confirm("Overwrite the content of \(address.path) with \(rw)") }
        let result = try withProgress("bench", context) { meter throws(ToolError) -> BenchLoad.Result in
            if let found {
                let session = try found.exclusiveSession(
                    pattern.writes ? .readWrite : .readOnly, host: context.host, "load")
                do throws(ToolError) {
                    let result = try load.run(
                        EngineSubject(session.engine), host: context.host, seed: seed, meter: meter)
                    try session.close()
                    return result
                } catch {
                    try? session.close()
                    throw error
                }
            }
            let file = try RawFile.open(address.path, writable: pattern.writes)
            return try load.run(FileSubject(file), host: context.host, seed: seed, meter: meter)
        }
        show(result, load, context)
        return .done
    }

    private func show(_ result: BenchLoad.Result, _ load: BenchLoad, _ context: Context) {
        let kinds = [("read", result.reads), ("write", result.writes), ("flush", result.flushes)].filter {
            $0.1.count > 0
        }
        if context.isJSON {
            var document: JSON = [
                "target": .string(target), "rw": .string(rw), "bs": JSON(load.blockBytes), "depth": JSON(depth),
                "fsync": JSON(fsync), "seed": JSON(seed), "elapsed_ns": JSON(result.elapsedNs),
            ]
            for (name, latencies) in kinds {
                document = document.adding(name, json(latencies, name, load, result.elapsedNs))
            }
            Output.message("summary", document)
            return
        }
        var table = Table([
            ("", .left), ("IOPS", .right), ("MiB/s", .right), ("MEAN µs", .right), ("p50", .right), ("p95", .right),
            ("p99", .right), ("p99.9", .right), ("MAX", .right),
        ])
        for (name, latencies) in kinds {
            let perSecond = rate(latencies, result.elapsedNs)
            let megabytes = name == "flush" ? "-" : tenths(perSecond * Double(load.blockBytes) / 1_048_576)
            let times = [latencies.meanNs] + [0.5, 0.95, 0.99, 0.999].map(latencies.percentile) + [latencies.maxNs]
            table.add([name, String(Int(perSecond)), megabytes] + times.map { tenths(Double($0) / 1000) })
        }
        Output.write(table.text)
    }

    private func json(_ latencies: Latencies, _ name: String, _ load: BenchLoad, _ elapsedNs: UInt64) -> JSON {
        let perSecond = rate(latencies, elapsedNs)
        return [
            "operations": JSON(latencies.count), "iops": .number(perSecond),
            "mib_per_second": name == "flush" ? .null : .number(perSecond * Double(load.blockBytes) / 1_048_576),
            "latency_mean_ns": JSON(latencies.meanNs), "latency_p50_ns": JSON(latencies.percentile(0.5)),
            "latency_p95_ns": JSON(latencies.percentile(0.95)), "latency_p99_ns": JSON(latencies.percentile(0.99)),
            "latency_p999_ns": JSON(latencies.percentile(0.999)), "latency_max_ns": JSON(latencies.maxNs),
        ]
    }

    private func rate(_ latencies: Latencies, _ elapsedNs: UInt64) -> Double {
        elapsedNs == 0 ? 0 : Double(latencies.count) * 1e9 / Double(elapsedNs)
    }

    private func tenths(_ value: Double) -> String {
        let number = Int((value * 10).rounded())
        return "\(number / 10).\(number % 10)"
    }
}
