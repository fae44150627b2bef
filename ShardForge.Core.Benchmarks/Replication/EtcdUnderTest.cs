using System.Diagnostics;
using Google.Protobuf;
using Grpc.Net.Client;
using ShardForge.Benchmarks.Replication.Etcd;

namespace ShardForge.Benchmarks.Replication;

/// <summary>Three etcd processes on loopback, asked over gRPC; a caller stays with one node, as an etcd client does.</summary>
internal sealed class EtcdUnderTest(string binary) : IClusterUnderTest
{
    private const int Nodes = 3;
    private static readonly TimeSpan s_readyLimit = TimeSpan.FromSeconds(30);
    private readonly string _folder = Directory.CreateTempSubdirectory("etcd-replication-").FullName;
    private readonly int[] _ports = ShardForgeUnderTest.FreePorts();       // of clients, then of peers
    private readonly Process?[] _nodes = new Process?[Nodes];
    private readonly GrpcChannel[] _channels = new GrpcChannel[Nodes];
    private readonly KV.KVClient[] _clients = new KV.KVClient[Nodes];

    public string Name => "etcd";

    public async Task StartAsync()
    {
        for (int i = 0; i < Nodes; i++)
        {
            _channels[i] = GrpcChannel.ForAddress($"http://127.0.0.1:{_ports[i]}", new GrpcChannelOptions
            {
                HttpHandler = new SocketsHttpHandler { EnableMultipleHttp2Connections = true },
            });
            _clients[i] = new KV.KVClient(_channels[i]);
        }

        StartAll("new");
        await WaitUntilReadyAsync();
    }

    public async Task RestartAsync()
    {
        foreach (Process? node in _nodes)
        {
            // SIGTERM: it closes in order.
            using Process kill = Process.Start("kill", [node!.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync();
            await node.WaitForExitAsync();
            node.Dispose();
        }

        StartAll("existing");
        await WaitUntilReadyAsync();
    }

    public async ValueTask PutAsync(int caller, byte[] key, byte[] value) =>
        await _clients[caller % Nodes].PutAsync(new PutRequest { Key = UnsafeByteOperations.UnsafeWrap(key), Value = UnsafeByteOperations.UnsafeWrap(value) });

    public async ValueTask<byte[]?> GetAsync(int caller, byte[] key)
    {
        RangeResponse response = await _clients[caller % Nodes].RangeAsync(new RangeRequest { Key = UnsafeByteOperations.UnsafeWrap(key) });
        return response.Kvs.Count == 0 ? null : response.Kvs[0].Value.ToByteArray();
    }

    public Usage Measure() => Usage.OfProcesses(_nodes.OfType<Process>());

    public ValueTask DisposeAsync()
    {
        foreach (GrpcChannel channel in _channels)
            channel?.Dispose();
        foreach (Process? node in _nodes)
        {
            if (node is { HasExited: false })
            {
                node.Kill();
                node.WaitForExit();
            }

            node?.Dispose();
        }

        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    private void StartAll(string state)
    {
        string members = string.Join(',', Enumerable.Range(0, Nodes).Select(i => $"e{i + 1}=http://127.0.0.1:{_ports[Nodes + i]}"));
        for (int i = 0; i < Nodes; i++)
        {
            string client = $"http://127.0.0.1:{_ports[i]}", peer = $"http://127.0.0.1:{_ports[Nodes + i]}";
            ProcessStartInfo start = new(binary) { UseShellExecute = false, RedirectStandardError = true, RedirectStandardOutput = true };
            foreach (string argument in (string[])["--name", $"e{i + 1}", "--data-dir", Path.Combine(_folder, $"e{i + 1}"), "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", members, "--initial-cluster-state", state, "--log-level", "error"])
                start.ArgumentList.Add(argument);
            Process node = Process.Start(start) ?? throw new InvalidOperationException($"{binary} was not started.");
            node.ErrorDataReceived += static (_, _) => { };
            node.OutputDataReceived += static (_, _) => { };
            node.BeginErrorReadLine();
            node.BeginOutputReadLine();
            _nodes[i] = node;
        }
    }

    private async Task WaitUntilReadyAsync()
    {
        long begun = Stopwatch.GetTimestamp();
        for (int i = 0; i < Nodes; i++)
        {
            while (true)
            {
                try
                {
                    await GetAsync(i, [0]);
                    break;
                }
                catch (Grpc.Core.RpcException) when (Stopwatch.GetElapsedTime(begun) < s_readyLimit)
                {
                    await Task.Delay(50);
                }
            }
        }
    }
}
