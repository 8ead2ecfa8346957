// shared-volumes is the CSI driver of the lab's default StorageClass. A volume is a folder of the machine that every node of
// the cluster has mounted at the same place, so it is bound to no node; all else is as with a driver for real disks: a volume
// is attached to one node at a time, mounted by the kubelet, given to the group of the pod, and grows while it is mounted.
// Only the size is not enforced, as nothing limits a folder.
//
//	shared-volumes controller       once in the cluster
//	shared-volumes node             on every node; NODE_NAME says which
package main

import (
	"log"
	"os"
)

const (
	driver       = "shared.lab.collective.storage"
	sharedFolder = "/shared-volumes"
)

func main() {
	part := ""
	if len(os.Args) == 2 {
		part = os.Args[1]
	}
	switch part {
	case "controller":
		control()
	case "node":
		serveNode(os.Getenv("NODE_NAME"))
	default:
		log.Fatal("say which part: controller or node")
	}
}
