// pod-network is the lab's pod network, on every node of the cluster: it writes a ptp configuration for the node's own pod
// range and keeps one route to the range of every other node. Masquerading is a unit of the node image. Network policies are
// not enforced.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"collective.storage/hack/kind/lab/api"
)

const (
	configurationFolder = "/etc/cni/net.d"
	whileUnconfigured   = 500 * time.Millisecond
	afterTrouble        = time.Second
	whenConfigured      = 5 * time.Second
	oneRound            = 10 * time.Second
	etherMTU            = 1500
)

const configuration = `{"cniVersion":"0.4.0","name":"lab","plugins":[
{"type":"ptp","ipMasq":false,"mtu":%d,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":%q}]]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}
`

type node struct {
	Metadata struct{ Name string }
	Spec     struct{ PodCIDR string }
	Status   struct {
		Addresses []struct{ Type, Address string }
	}
}

func main() {
	client, err := api.New()
	if err != nil {
		log.Fatal(err)
	}
	self := os.Getenv("NODE_NAME")
	written := ""
	for {
		written, err = round(client, self, written)
		switch {
		case err != nil:
			log.Print(err)
			time.Sleep(afterTrouble)
		case written == "":
			time.Sleep(whileUnconfigured)
		default:
			time.Sleep(whenConfigured)
		}
	}
}

// round does what the nodes of now ask for and answers the configuration that is in force, empty as long as there is none.
func round(client *api.Client, self, written string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), oneRound)
	defer cancel()
	var nodes struct{ Items []node }
	if err := client.Get(ctx, "/api/v1/nodes", &nodes); err != nil {
		return written, err
	}
	for _, one := range nodes.Items {
		_, podRange, err := net.ParseCIDR(one.Spec.PodCIDR)
		if err != nil {
			continue // it was given none yet
		}
		if one.Metadata.Name == self {
			if written, err = configure(podRange, written); err != nil {
				return written, err
			}
		} else if err := routeTo(one, podRange); err != nil {
			return written, err
		}
	}
	return written, nil
}

func configure(podRange *net.IPNet, written string) (string, error) {
	wanted := fmt.Sprintf(configuration, mtu(), podRange.String())
	if wanted == written {
		return written, nil
	}
	unfinished := filepath.Join(configurationFolder, ".10-lab.unfinished")
	if err := os.WriteFile(unfinished, []byte(wanted), 0o644); err != nil {
		return written, err
	}
	if err := os.Rename(unfinished, filepath.Join(configurationFolder, "10-lab.conflist")); err != nil {
		return written, err
	}
	log.Printf("pods of this node get addresses of %s", podRange)
	return wanted, nil
}

func routeTo(other node, podRange *net.IPNet) error {
	for _, address := range other.Status.Addresses {
		gateway := net.ParseIP(address.Address).To4()
		if address.Type != "InternalIP" || gateway == nil {
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: podRange, Gw: gateway}); err != nil {
			return fmt.Errorf("route to %s by way of %s: %w", podRange, gateway, err)
		}
	}
	return nil
}

func mtu() int {
	if link, err := netlink.LinkByName("eth0"); err == nil {
		return link.Attrs().MTU
	}
	return etherMTU
}
