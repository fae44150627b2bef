using BenchmarkDotNet.Running;
using ShardForge.Benchmarks.Replication;
using ShardForge.Benchmarks.Startup;
using ShardForge.Benchmarks.Transactions;

// `startup`: time to the first durable write and of a test cluster's start and end. `replication`: three nodes under load, beside etcd. `transactions`: commits a second.
// Anything else: BenchmarkDotNet, e.g. `--filter *SingleNode*`.
if (args is ["startup", ..])
    return await StartupBenchmark.RunAsync();
if (args is ["replication", .. string[] rest])
    return await ReplicationBenchmark.RunAsync(rest);
if (args is ["transactions", ..])
    return await TransactionBenchmark.RunAsync();
if (args is [FirstWriteProcess.Argument, string directory])
    return await FirstWriteProcess.RunAsync(directory);
BenchmarkSwitcher.FromAssembly(typeof(StartupBenchmark).Assembly).Run(args);
return 0;
