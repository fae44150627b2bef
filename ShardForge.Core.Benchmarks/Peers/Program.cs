using ShardForge.Benchmarks.Peers.Engines;

// `engines`: our storage engines beside others, the same data and work, each run in a process of its own. See docs/benchmarks.md.
return args switch
{
    [EngineRun.Argument, string order] => await EngineRun.RunAsync(order),
    ["engines", .. string[] options] => EngineComparison.Run(options),
    _ => Usage(),
};

static int Usage()
{
    Console.Error.WriteLine(EngineOptions.Usage);
    return 2;
}
