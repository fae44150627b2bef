using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using NUnit.Framework;
using ShardForge.Network;

namespace ShardForge.Tests.Network;

/// <summary>Peer links under mutual TLS.</summary>
[Parallelizable(ParallelScope.All)]
internal sealed class TlsTests
{
    [Test]
    public async Task Nodes_with_certificates_of_one_authority_talk([Values(TransportKind.Tcp, TransportKind.InMemory)] TransportKind kind)
    {
        using X509Certificate2 authority = TestCertificates.Authority("a"), first = TestCertificates.SignedBy(authority, "n1"), second = TestCertificates.SignedBy(authority, "n2");
        await using PeerWorld world = new(kind);
        PeerNetwork client = world.Add("node-1", with: With(first, authority)), server = world.Add("node-2", with: With(second, authority));
        client.SetAddress("node-2", server.ListenEndPoint!);
        byte[] payload = new byte[300_000];
        new Random(1).NextBytes(payload);
        Assert.That(await client.AskAsync("node-2", payload), Is.EqualTo(payload));
    }

    [Test]
    public async Task Nodes_with_pinned_certificates_talk_and_others_do_not()
    {
        using X509Certificate2 first = TestCertificates.SelfSigned("n1"), second = TestCertificates.SelfSigned("n2"), stranger = TestCertificates.SelfSigned("n1");
        string[] pins = [Thumbprint(first), Thumbprint(second)];
        await using PeerWorld world = new(TransportKind.Tcp);
        PeerNetwork client = world.Add("node-1", with: WithPins(first, pins)), server = world.Add("node-2", with: WithPins(second, pins));
        client.SetAddress("node-2", server.ListenEndPoint!);
        Assert.That(await client.AskAsync("node-2", new byte[3]), Has.Length.EqualTo(3));

        PeerNetwork other = world.Add("node-3", with: WithPins(stranger, pins));
        Assert.That(async () => await other.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience), Throws.InstanceOf<PeerUnavailableException>());
    }

    [Test]
    public async Task A_stranger_gets_no_hello([Values] Stranger stranger)
    {
        using X509Certificate2 authority = TestCertificates.Authority("a"), own = TestCertificates.SignedBy(authority, "n2");
        using X509Certificate2 otherAuthority = TestCertificates.Authority("a"), forged = TestCertificates.SignedBy(otherAuthority, "n1");
        using X509Certificate2 expired = TestCertificates.SignedBy(authority, "n1", end: new DateTimeOffset(2021, 1, 1, 0, 0, 0, TimeSpan.Zero));
        await using PeerWorld world = new(TransportKind.Tcp);
        PeerNetwork server = world.Add("node-2", with: With(own, authority));
        PeerNetwork other = stranger switch
        {
            Stranger.WithoutTls => world.Add("node-1"),
            Stranger.OfAnotherAuthority => world.Add("node-1", with: With(forged, authority)),
            _ => world.Add("node-1", with: With(expired, authority)),
        };
        Assert.That(async () => await other.ProbeAsync(server.ListenEndPoint!, TimeSpan.FromSeconds(5)), Throws.InstanceOf<PeerUnavailableException>());

        // And the other way round: it does not talk to a server that it cannot trust.
        Assert.That(async () => await server.ProbeAsync(other.ListenEndPoint!, TimeSpan.FromSeconds(5)), Throws.InstanceOf<PeerUnavailableException>());
    }

    [Test]
    public async Task A_certificate_is_changed_without_a_restart()
    {
        using X509Certificate2 before = TestCertificates.Authority("before"), after = TestCertificates.Authority("after");
        using X509Certificate2 oldOne = TestCertificates.SignedBy(before, "n"), newOne = TestCertificates.SignedBy(after, "n");
        X509Certificate2 used = oldOne, trusted = before;
        PeerTlsOptions tls = new() { Certificate = () => Volatile.Read(ref used), TrustedRoots = () => [Volatile.Read(ref trusted)] };
        await using PeerWorld world = new(TransportKind.Tcp);
        PeerNetwork client = world.Add("node-1", with: options => options with { Security = new TlsConnectionSecurity(tls, TimeProvider.System) });
        PeerNetwork server = world.Add("node-2", with: options => options with { Security = new TlsConnectionSecurity(tls, TimeProvider.System) });
        Assert.That((await client.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience)).NodeId, Is.EqualTo("node-2"));

        Volatile.Write(ref used, newOne);
        Volatile.Write(ref trusted, after);
        Assert.That((await client.ProbeAsync(server.ListenEndPoint!, PeerWorld.Patience)).NodeId, Is.EqualTo("node-2"));
        PeerNetwork old = world.Add("node-3", with: With(oldOne, after));
        Assert.That(async () => await old.ProbeAsync(server.ListenEndPoint!, TimeSpan.FromSeconds(5)), Throws.InstanceOf<PeerUnavailableException>());
    }

    [Test]
    public async Task Silent_connections_take_only_the_places_of_handshakes_and_not_for_long()
    {
        using X509Certificate2 authority = TestCertificates.Authority("a"), first = TestCertificates.SignedBy(authority, "n1"), second = TestCertificates.SignedBy(authority, "n2");
        await using PeerWorld world = new(TransportKind.Tcp);
        PeerNetwork client = world.Add("node-1", with: With(first, authority));
        PeerNetwork server = world.Add("node-2", with: options => With(second, authority)(options) with { HandshakesMax = 4, ConnectTimeout = TimeSpan.FromMilliseconds(300) });
        List<ITransportConnection> silent = [];
        for (int i = 0; i < 20; i++)
        {
            try
            {
                silent.Add(await world.Transport(9).ConnectAsync(server.ListenEndPoint!, CancellationToken.None));
            }
            catch (IOException)
            {
                // Turned away before it knew that it was connected: there was no place.
            }
        }

        // Their time is over soon, and then there is a place again.
        client.SetAddress("node-2", server.ListenEndPoint!);
        await PeerWorld.UntilAsync(() => client.IsConnected("node-2"));
        Assert.That(await client.AskAsync("node-2", new byte[3]), Has.Length.EqualTo(3));
        foreach (ITransportConnection connection in silent)
        {
            connection.Abort();
            await connection.DisposeAsync();
        }
    }

    [Test]
    public void Options_that_trust_nobody_or_have_no_key_are_refused()
    {
        using X509Certificate2 authority = TestCertificates.Authority("a"), own = TestCertificates.SignedBy(authority, "n1");
        using X509Certificate2 withoutKey = X509CertificateLoader.LoadCertificate(own.RawData);
        Assert.That(() => ShardForgeCluster.Open(new() { PeerTls = new() { Certificate = () => own } }), Throws.InstanceOf<ConfigurationException>());
        Assert.That(() => ShardForgeCluster.Open(new() { PeerTls = new() { Certificate = () => withoutKey, TrustedRoots = () => [authority] } }), Throws.InstanceOf<ConfigurationException>());
        Assert.That(
            () => ShardForgeCluster.Open(new() { PeerTls = new() { Certificate = static () => throw new IOException("gone"), TrustedRoots = () => [authority] } }), Throws.InstanceOf<ConfigurationException>());
    }

    public enum Stranger
    {
        WithoutTls,
        OfAnotherAuthority,
        Expired,
    }

    private static string Thumbprint(X509Certificate2 certificate) => certificate.GetCertHashString(HashAlgorithmName.SHA256);

    private static Func<PeerNetworkOptions, PeerNetworkOptions> With(X509Certificate2 own, X509Certificate2 authority) => options => options with
    {
        Security = new TlsConnectionSecurity(new() { Certificate = () => own, TrustedRoots = () => [authority] }, TimeProvider.System),
        ConnectTimeout = TimeSpan.FromSeconds(3),
    };

    private static Func<PeerNetworkOptions, PeerNetworkOptions> WithPins(X509Certificate2 own, string[] pins) => options => options with
    {
        Security = new TlsConnectionSecurity(new() { Certificate = () => own, PinnedThumbprints = () => pins }, TimeProvider.System),
        ConnectTimeout = TimeSpan.FromSeconds(3),
    };
}
