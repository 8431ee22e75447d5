import ArgumentParser

/// The verbs.
struct ReplicaTool: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replica-tool",
        abstract: "Copy-on-write volumes with snapshots, as sparse files that a mount shows.",
        discussion: """
            VOLUME is a volume directory, TARGET a volume or a replica directory, SNAP the name of a snapshot.
            A mounted volume is asked through its control socket, any other is opened.
            Every verb takes the global options, also in front of it; REPLICA_TOOL_OUTPUT and so on set them too.

            Exit codes: 0 done, 1 failed, 2 damage found, 3 done with remarks, 10 not found, 11 in use, \
            13 not enough replicas, 14 no space, 15 split brain, 63 format not supported, 64 wrong use, 130 interrupted.
            """,
        version: toolVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "Volumes:",
                subcommands: [
                    Create.self, Info.self, List.self, Status.self, Events.self, Resize.self, ReplicaGroup.self,
                ]),
            CommandGroup(name: "Mounts:", subcommands: [Mount.self, Umount.self]),
            CommandGroup(name: "Snapshots:", subcommands: [SnapshotGroup.self, Map.self]),
            CommandGroup(name: "Content:", subcommands: [Export.self, Import.self, Compare.self]),
            CommandGroup(name: "Care:", subcommands: [Verify.self, Inspect.self, Bench.self]),
            CommandGroup(name: "The tool:", subcommands: [Completion.self, Man.self]),
        ])
}

let toolVersion = "0.1.0"
